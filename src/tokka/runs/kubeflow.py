"""The only module that talks to Kubeflow Pipelines: compile the IR, and run it on this machine.

    python -m tokka.runs.kubeflow run/launch.json      # the child process that `tokka run` starts

The laptop runs the compiled files, not the Python functions: what is tested here is what the cluster gets.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.files import Tree
from tokka.settings import QUIET

PIPELINES = ("retrain", "specialise", "rollout", "tune")
# What of this machine's environment a task sees; the image says the rest.
# With what chooses kernels and threads, on which the last digits of a training depend.
PASSED = ("TOKKA_", "MLFLOW_", "AWS_", "HF_", "TMPDIR", "OPENBLAS_", "OMP_", "MKL_", "ATEN_", "ONEDNN_", *QUIET)


def compile_pipelines(
    root: Path, folder: Path, *, names: Sequence[str] = PIPELINES, profile: str = "", image: str = ""
) -> list[Path]:  # fmt: skip
    """Write `<folder>/<name>.yaml` for pipelines of the project at `root`.

    `profile`: of infra/kubernetes/pipeline.yaml; `image`: what the tasks run in. UsageError when `root` is no Tokka
    project or that file is wrong, TokkaError when a pipeline does not compile.
    """
    if not (root / "pipelines" / "compile.py").is_file():
        raise UsageError(f"{root} has no pipelines/compile.py", "run from the project's root, or set TOKKA_ROOT")
    command = [sys.executable, "-m", "pipelines.compile", str(folder), *names]
    chosen = {"TOKKA_PROFILE": profile} | ({"TOKKA_IMAGE": image} if image else {})
    run = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, **chosen}
    )  # fmt: skip
    if run.returncode == UsageError.exit_code:
        message, *hint = run.stderr.strip().splitlines()
        raise UsageError(message, "; ".join(hint))
    if run.returncode != 0:
        raise TokkaError(f"the pipelines do not compile: {run.stderr.strip().splitlines()[-1]}", " ".join(command))
    return [Path(line) for line in run.stdout.split()]


def compile_one(name: str, root: Path, folder: Path, *, profile: str = "", image: str = "") -> Path:
    """The same for one pipeline; a project's own compile.py may write the others too."""
    paths = compile_pipelines(root, folder, names=[name], profile=profile, image=image)
    found = next((path for path in paths if path.stem == name), None)
    if found is None:
        raise TokkaError(f"pipelines/compile.py wrote no {name}.yaml", f"python -m pipelines.compile {folder} {name}")
    return found


def image(ir: Path) -> str:
    """The image in which the tasks of a compiled pipeline run: the same for all."""
    import yaml

    specification = next(yaml.safe_load_all(ir.read_text(encoding="utf-8")))
    executors = specification["deploymentSpec"]["executors"].values()
    return str(next(one["container"]["image"] for one in executors))


def _runner(launch: Tree) -> object:
    from kfp import local

    if launch["runner"] == "subprocess":
        return local.SubprocessRunner(use_venv=False)
    root, home = Path(os.environ["TOKKA_ROOT"]), Path(os.environ["TOKKA_HOME"])
    return local.DockerRunner(**docker_options(root, home, named_paths(launch["arguments"])))


def named_paths(arguments: object) -> set[Path]:
    """The files and folders of this machine that the arguments of a run name in full: data, suites, base models."""
    if isinstance(arguments, Mapping):
        return set().union(*map(named_paths, arguments.values()))
    is_path = isinstance(arguments, str) and arguments.startswith("/") and Path(arguments).exists()
    return {Path(str(arguments))} if is_path else set()


def docker_options(root: Path, home: Path, named: Iterable[Path] = ()) -> dict[str, object]:
    """For KFP's runner: TOKKA_HOME to write, the project to read, this machine's user, network and process numbers.

    The stack runs outside, beside the containers: the step that rolls out finds it by its process numbers.
    """
    further = [path for path in sorted(named) if not path.is_relative_to(root) and not path.is_relative_to(home)]
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "environment": {name: value for name, value in os.environ.items() if name.startswith(PASSED)},
        "network_mode": "host",
        "pid_mode": "host",
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mounts": [*(_bind(path, read_only=True) for path in (root, *further)), _bind(home, read_only=False)],
    }


def require_image(name: str) -> None:
    """TokkaError when there is no Docker engine to ask, or it has no such image."""
    import docker

    try:
        client = docker.from_env()
        client.images.get(name)
    except docker.errors.ImageNotFound:
        hint = "build it with `make image`, or name another one in TOKKA_IMAGE"
        raise TokkaError(f"Docker has no image {name}", hint) from None
    except docker.errors.DockerException as error:
        reason = " ".join(str(error).split())[:200]
        raise TokkaError(f"no Docker engine answers: {reason}", "start it, or run without --runner docker") from None
    client.close()


def _bind(folder: Path, *, read_only: bool) -> dict[str, object]:
    return {"Type": "bind", "Source": str(folder), "Target": str(folder), "ReadOnly": read_only}


def main() -> None:
    """Run what a launch file says, {"ir", "arguments", "runner", "pipeline_root"}, to its end through kfp.local."""
    # Before kfp, whose import takes seconds: a parent that ends in them would not be missed.
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    from kfp import components, local

    launch = files.read_json(Path(sys.argv[1]))
    local.init(_runner(launch), pipeline_root=launch["pipeline_root"], raise_on_error=True)
    ir = without_retries(Path(launch["ir"]).read_text(encoding="utf-8"))
    components.load_component_from_text(ir)(**launch["arguments"])


def without_retries(text: str) -> str:
    """The IR for this machine: pods get lost, processes do not, and a failure is told at once."""
    import yaml

    ir = yaml.safe_load(text.partition("\n---\n")[0])
    dags = [ir["root"]["dag"], *(found["dag"] for found in ir["components"].values() if "dag" in found)]
    for task in (task for dag in dags for task in dag["tasks"].values()):
        task.pop("retryPolicy", None)
    return yaml.safe_dump(ir)


def _end_with_parent(parent: int) -> None:
    """A killed `tokka run` must not leave a training behind that nobody waits for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
