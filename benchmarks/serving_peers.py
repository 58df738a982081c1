"""The servers that are compared, each started by a command of its own on loopback, with the same model folder.

    python benchmarks/serving_peers.py litserve --model DIR --form int8 --port 9001      # serves until it is killed

What a user gets by following each project's own guide: `mlflow models serve` on a pyfunc model, a KServe `ModelServer`
with a plain `Model`, and LitServe with batching. All of them call the same predictor, so that tokenizer, weights and
numeric form are the same.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

BATCH, BATCH_SECONDS = 16, 0.005


def open_model(folder: Path, form: str, threads: int = 1) -> Any:
    """The predictor, on one thread unless told otherwise."""
    from tokka.model.predictor import load_predictor

    return load_predictor(folder, form=form, threads=threads)  # type: ignore[arg-type]


def serve_mlflow(folder: Path, form: str, port: int, threads: int = 1) -> None:
    """A pyfunc model, saved and served by MLflow's own command."""
    import tempfile

    import mlflow

    class Wrapped(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
        def load_context(self, context: Any) -> None:
            self.predictor = open_model(Path(context.artifacts["model"]), form, threads)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            found = self.predictor.predict(list(model_input["text"]))
            return [
                {"label": label, "score": float(s)} for label, s in zip(found.labels, found.confidence, strict=True)
            ]

    place = Path(tempfile.mkdtemp()) / "model"
    mlflow.pyfunc.save_model(place, python_model=Wrapped(), artifacts={"model": str(folder)}, pip_requirements=[])
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", str(place), "-p", str(port)]
    # It looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.execve(
        command[0], [*command, "--env-manager", "local", "-h", "127.0.0.1", "-w", "1"], {**os.environ, "PATH": path}
    )


def serve_mlflow_untuned(folder: Path, form: str, port: int) -> None:
    """The same with torch's own number of threads: what comes of leaving them alone."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.pop(name, None)
    serve_mlflow(folder, form, port, threads=os.cpu_count() or 1)


def serve_kserve(folder: Path, form: str, port: int) -> None:
    """A plain model behind KServe's own server."""
    import kserve

    class Plain(kserve.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("plain")
            self.predictor = open_model(folder, form)
            self.ready = True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            found = self.predictor.predict(payload["instances"])
            answers = zip(found.labels, found.confidence.tolist(), strict=True)
            return {"predictions": [{"label": label, "score": score} for label, score in answers]}

    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1).start([Plain()])


def serve_litserve(folder: Path, form: str, port: int) -> None:
    """LitServe with its batching; one inference worker."""
    import litserve
    from serving_litserve import Api

    server = litserve.LitServer(Api(folder, form), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


PEERS = {
    "mlflow": serve_mlflow,
    "mlflow-untuned": serve_mlflow_untuned,
    "kserve": serve_kserve,
    "litserve": serve_litserve,
}


def main() -> None:
    """Serve one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--form", default="int8")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    PEERS[given.peer](given.model, given.form, given.port)


if __name__ == "__main__":
    main()
