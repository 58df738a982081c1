"""The daemon's other children: the MLflow page, and short-lived helpers that import MLflow so that it need not.

page = MlflowPage(settings, log, environment, keeper); page.keep()
"""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tokka.errors import TokkaError
from tokka.gateway.gateway import HOST, require_free
from tokka.processes import lifetime
from tokka.processes.detached import Ward
from tokka.processes.process import HELPING_NICENESS
from tokka.settings import Settings

RETRY_SECONDS = 10.0
PAGE_PORT_OFFSET = 10
STOP_SECONDS = 5.0


class Child:
    """At most one process at a time, which dies with this one; a failed one is tried again later.

    Args:
        name: for messages.
        log: file for its output.
        retry_seconds: how long after a failure the next one is started.
        niceness: what users wait for is the gateway and the workers; 0 for a child that is asked by them.
    """

    def __init__(
        self, name: str, log: Path, environment: dict[str, str], *, retry_seconds: float = RETRY_SECONDS,
        niceness: int = HELPING_NICENESS,
    ) -> None:  # fmt: skip
        self.name = name
        self._niceness = niceness
        self._retry_seconds = retry_seconds
        self._log = log
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    @property
    def pids(self) -> list[int]:
        """The running process, if any."""
        return [self._child.pid] if self._child is not None else []

    def start(self, command: list[str]) -> bool:
        """Start a process unless one runs, or the last one failed a moment ago."""
        if self._child is not None or time.monotonic() < self._not_before:
            return False
        supervisor = os.getpid()
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=lambda: self._become_child(supervisor),
            )  # fmt: skip
        return True

    def _become_child(self, supervisor: int) -> None:
        lifetime.die_with_parent(supervisor)
        os.nice(self._niceness)

    def reap(self) -> int | None:
        """The exit code of a process that has ended since the last call."""
        if self._child is None or (code := self._child.poll()) is None:
            return None
        self._child = None
        self._not_before = time.monotonic() + self._retry_seconds * (code != 0)
        return code

    def stop(self) -> None:
        """End the process and wait for it."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


class Helper:
    """A child of the stack's keeper, which stays: it outlives the daemon, whose successor finds it again.

    Args:
        name: of the file that says which process it is.
        folder: where it runs, and where that file lies.
        keeper: with whom it ends.
        log, retry_seconds, niceness: as for `Child`.
    """

    def __init__(
        self, name: str, folder: Path, log: Path, environment: dict[str, str], keeper: int, *,
        retry_seconds: float = RETRY_SECONDS, niceness: int = HELPING_NICENESS,
    ) -> None:  # fmt: skip
        self._file = folder / f"{name}.pid.json"
        self._start = functools.partial(
            Ward.start, guardian=keeper, folder=folder, log=log, environment=environment, niceness=niceness
        )
        self._retry_seconds, self._not_before = retry_seconds, 0.0
        self._ward = Ward.recall(self._file, keeper)

    @property
    def pids(self) -> list[int]:
        """The running process, if any."""
        return [self._ward.pid] if self._ward is not None and self._ward.alive() else []

    def keep(self, command: list[str]) -> None:
        """Start it unless it runs, or was started a moment ago."""
        if self.pids or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + self._retry_seconds
        self._ward = self._start(command)
        self._ward.remember(self._file)

    def stop(self) -> None:
        """End it and wait for it."""
        if self._ward is not None:
            self._ward.stop(signal.SIGTERM, STOP_SECONDS)


class MlflowPage:
    """MLflow's server at the gateway's port + 10, for people; only when the tracking store is a SQLite file here.

    It is run as MLflow's own launcher runs it, without the launcher: that one is a second process, whose child
    nothing would end when the daemon is killed.
    """

    def __init__(self, settings: Settings, log: Path, environment: dict[str, str], keeper: int) -> None:
        self._settings = settings
        self._port = settings.port + PAGE_PORT_OFFSET
        self._is_ours = settings.tracking_uri.startswith("sqlite:")
        self.url = f"http://{HOST}:{self._port}" if self._is_ours else settings.tracking_uri
        self.problems: list[str] = []
        artifacts = (settings.home / "artifacts").as_uri()
        own = {
            "_MLFLOW_SERVER_FILE_STORE": settings.tracking_uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._helper = Helper("mlflow-page", settings.home / "stack", log, {**environment, **own}, keeper)

    @property
    def pids(self) -> list[int]:
        """The running process, if any."""
        return self._helper.pids

    def has_registry(self) -> bool:
        """Whether there is a registry yet: its SQLite file is made by whoever writes to it first."""
        return not self._is_ours or Path(self._settings.tracking_uri.removeprefix("sqlite:///")).is_file()

    def keep(self) -> None:
        """Start it when it should run and does not."""
        if not self._is_ours or not self.has_registry():
            return
        if self._helper.pids:
            return
        try:
            require_free(self._port)
        except TokkaError as error:
            self.problems = [f"no MLflow page: {error.message}"]
            return
        self.problems = []
        command = [sys.executable, "-P", "-m", "uvicorn", "--host", HOST, "--port", str(self._port), "--workers", "1"]
        self._helper.keep([*command, "--log-level", "warning", "mlflow.server.fastapi_app:app"])

    def stop(self) -> None:
        """End it."""
        self._helper.stop()
