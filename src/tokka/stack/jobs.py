"""The daemon's child for asynchronous jobs, when a broker is named.

jobs = JobsChild(settings, params, folder, logs, environment); jobs.keep()
"""

import sys
import time
from pathlib import Path

from tokka.jobs.broker import SOCKET, require_known
from tokka.jobs.metrics import JobMetrics
from tokka.params import Params
from tokka.processes.child import Child
from tokka.settings import Settings

RETRY_SECONDS = 1.0
# A process that lives for so long has no problem any more.
SETTLED_SECONDS = 5.0


class JobsChild:
    """One process that takes and consumes jobs; none without a broker.

    Args:
        folder: where the gateway runs; the socket lies in it.

    Raises:
        UsageError: the broker's URL is none that is known.
    """

    def __init__(
        self, settings: Settings, params: Params, folder: Path, logs: Path, environment: dict[str, str]
    ) -> None:
        broker = settings.broker or params.serving.asynchronous.broker
        self.socket = SOCKET if broker else ""
        if broker:
            require_known(broker)
        self.metrics = JobMetrics(settings.jobs_url, params.registry.model) if broker else None
        self._command = [sys.executable, "-P", "-m", "tokka.jobs.process", str(folder)]
        environment = {**environment, "TOKKA_BROKER": broker or ""}
        self.problems: list[str] = []
        self._born = 0.0
        self._child = Child("jobs", logs / "jobs.log", environment, retry_seconds=RETRY_SECONDS, niceness=0)

    @property
    def pids(self) -> list[int]:
        """The running process, if any."""
        return self._child.pids

    def keep(self) -> None:
        """Start it when it should run and does not."""
        if self.socket:
            code = self._child.reap()
            if code:
                self.problems = [f"asynchronous jobs: their process ended with code {code}: see logs/jobs.log"]
            if self._child.start(self._command):
                self._born = time.monotonic()
            elif self._child.pids and time.monotonic() - self._born > SETTLED_SECONDS:
                self.problems = []

    def stop(self) -> None:
        """End it; what it held goes back to the queue."""
        self._child.stop()
