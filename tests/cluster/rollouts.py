"""What a rollout on a cluster needs beside it: MLflow, versions, replicas of the reconciler, visitors.

with Rollouts(folder, namespace, host) as here: here.ask_for("2")
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fixtures.models import make_model
from tests.fixtures.ports import free_port
from tests.fixtures.visitors import QUESTION, Answer, Visitors
from tests.fixtures.waiting import wait_for
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.deployment.record.wishes import RECONCILER, Wish, Wishes
from tokka.deployment.remote import PLAN
from tokka.params import parse_params
from tokka.registry import entities, signing
from tokka.registry.bundle import FILE, Bundle, seal
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings

ENDPOINT = "desk"
CANARY = {
    "shadow_rows": 20, "steps": [0.1, 0.5], "step_requests": 100, "quality_margin": 0.4, "watch_s": 10.0,
    "warm_up_s": 300.0, "maximum_wait_s": 400.0, "slow_ms": 5000.0, "error_margin": 1.0, "slow_margin": 1.0,
    "lost_s": 120.0,
}  # fmt: skip
# Another one that answers as the first does, and one that answers otherwise.
MODELS: dict[str, Any] = {"1": {"seed": 1}, "2": {"seed": 1, "temperature": 2.0}, "3": {"seed": 3}}
PATIENCE_S = 400.0


class Rollouts:
    """A record, a registry and replicas of the reconciler, all processes of this machine; `host`: as pods reach it."""

    def __init__(self, folder: Path, namespace: str, host: str) -> None:
        self.folder, self._namespace, port = folder, namespace, free_port()
        self.mlflow = f"http://{host}:{port}"
        environment = {
            "TOKKA_HOME": str(folder / "home"),
            "TOKKA_ROOT": str(folder),
            "MLFLOW_TRACKING_URI": self.mlflow,
        }
        self.settings = Settings.from_environment(environment)
        self.params = parse_params(
            {
                "registry": {"model": ENDPOINT, "review": "automatic"},
                "canary": CANARY,
                "deployment": {"drain_s": 8.0},
            }
        )
        self.processes: list[subprocess.Popen[bytes]] = [self._start_mlflow(port)]
        self.record = Record(self.settings.record_url)
        self.wishes = Wishes(self.record)

    def __enter__(self) -> "Rollouts":
        wait_for(self._mlflow_answers, PATIENCE_S, what="MLflow")
        self.registry = Registry(self.settings, ENDPOINT)
        self._register()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start_replica(self) -> None:
        """One more replica of the reconciler, with a home of its own."""
        home = self.folder / f"replica-{len(self.processes)}"
        environment = {
            **os.environ, "TMPDIR": str(self.folder), "TOKKA_HOME": str(home), "TOKKA_ROOT": str(self.folder),
            "TOKKA_RECORD_URL": self.settings.record_url, "TOKKA_VERIFY_KEY": str(self.settings.verify_key),
            "MLFLOW_TRACKING_URI": self.mlflow,
        }  # fmt: skip
        (self.folder / "params.yaml").write_text(f"registry: {{model: {ENDPOINT}}}\ndeployment: {{drain_s: 8.0}}\n")
        words = ["deploy", "reconcile", "--namespace", self._namespace, "--port", str(free_port())]
        with (self.folder / "reconciler.log").open("ab") as log:
            command = [sys.executable, "-m", "tokka.cli.main", *words]
            process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)

    def kill_leader(self) -> None:
        """SIGKILL the replica that leads, and start another one."""
        from tokka.deployment.record.claims import Claims

        claim = Claims(self.record).find(RECONCILER)
        assert claim is not None
        pid = int(claim.job.rpartition("-")[2])
        os.kill(pid, signal.SIGKILL)
        next(one for one in self.processes if one.pid == pid).wait()
        self.start_replica()

    def ask_for(self, version: str) -> Wish:
        """As the pipeline's step does."""
        return self.wishes.ask(ENDPOINT, version, "test", self.params.model_dump(mode="json", include=set(PLAN)))

    @property
    def state(self) -> State:
        return self.record.read(ENDPOINT)

    def wait(self, condition: Any, what: str) -> float:
        """Until something holds, and the seconds that it took."""
        began = time.monotonic()
        wait_for(condition, PATIENCE_S, lambda: f"{what}: {self.state!r}\n{self.log()[-3000:]}")
        return time.monotonic() - began

    def served(self) -> str | None:
        """The version that the reconciler sees serve alone."""
        observed, state = self.wishes.observed(ENDPOINT, 30.0), self.state
        alone = observed is not None and state.champion is not None and observed.champion == state.champion.digest
        return state.champion.version if alone and state.phase == "idle" and state.champion else None

    def log(self) -> str:
        return (self.folder / "reconciler.log").read_text()

    def _start_mlflow(self, port: int) -> subprocess.Popen[bytes]:
        options = {
            "--host": "0.0.0.0", "--port": str(port), "--workers": "1", "--allowed-hosts": "*",
            "--backend-store-uri": f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination": f"{self.folder}/artifacts",
        }  # fmt: skip
        words = [word for pair in options.items() for word in pair]
        quiet = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self.folder / "mlflow.log").open("wb") as log:
            command = [sys.executable, "-m", "mlflow", "server", *words]
            return subprocess.Popen(command, env=quiet, stdout=log, stderr=log, start_new_session=True)

    def _mlflow_answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.mlflow}/health", trust_env=False, timeout=5).status_code == 200
        return False

    def _register(self) -> None:
        """What version 1 says is the truth."""
        from tokka.serving.engine import Engine, Prepared, Row

        folders = {version: self.folder / "models" / version for version in MODELS}
        digests = {version: make_model(folders[version], **kind) for version, kind in MODELS.items()}
        texts = [f"{QUESTION} number {number}" for number in range(60)]
        engine = Engine.load(folders["1"])
        answers = engine.predict([Prepared(Row(text)) for text in texts])
        rows = [{"text": text, "target": one.label} for text, one in zip(texts, answers, strict=True)]
        evidence = self.folder / "evidence"
        evidence.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), evidence / "replay.parquet")
        self.registry.prepare()
        for version, digest in digests.items():
            signing.sign(folders[version], self.settings)
            tags = {entities.MODEL_DIGEST: digest, entities.GATE: "pass", entities.REVIEW: "automatic"}
            run_id = self.registry.log_run(
                f"key-{version}", params={}, metrics={}, tags=tags, folder_evidence=evidence,
                folder_model=folders[version], dataset=entities.Dataset("cluster", "0" * 64),
            )  # fmt: skip
            assert self.registry.register(run_id, description="", tags=tags) == version
            bundle = Bundle(model=ENDPOINT, version=version, run_id=run_id, model_digest=digest, verdict="pass")
            sealed = seal(bundle, self.settings)
            (self.folder / FILE).write_text(sealed)
            self.registry.log_artifact(run_id, self.folder / FILE)
            Evidence(self.record, ENDPOINT).keep(version, digest, sealed)


class Crowd:
    """Visitors who together ask some fifty times a second."""

    def __init__(self, way: Any, size: int = 4) -> None:
        self._visitors = [Visitors(way.url, host=way.host, tries=way.tries) for _ in range(size)]

    def __enter__(self) -> "Crowd":
        for one in self._visitors:
            one.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._visitors:
            one.__exit__()

    @property
    def answers(self) -> list[Answer]:
        return sorted((answer for one in self._visitors for answer in list(one.answers)), key=lambda one: one.came)

    @property
    def failed(self) -> list[str]:
        return [one.error for one in self.answers if one.error]

    def asked_again(self, apart_from: list[float]) -> list[Answer]:
        """What was asked again, but for 15 s after these moments."""
        spared = [(moment, moment + 15.0) for moment in apart_from]
        again = [one for one in self.answers if one.again]
        return [one for one in again if not any(since <= one.came < until for since, until in spared)]

    def counts(self, since: float, until: float) -> Counter[str]:
        """Version to answers between two moments."""
        return Counter(one.version for one in self.answers if since <= one.came < until)
