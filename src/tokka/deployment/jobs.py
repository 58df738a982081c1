"""The daemon's child for asynchronous jobs, when a broker is named.

jobs = JobsChild(settings, params, folder, logs, environment); jobs.keep()
"""

import sys
from pathlib import Path

from tokka.deployment.children import Child
from tokka.params import Params
from tokka.serving.asynchronous.transport import check
from tokka.settings import Settings

# The socket's name: tokka.serving.asynchronous.process imports too much to be asked for it here.
SOCKET = "jobs.sock"
RETRY_SECONDS = 1.0


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
            check(broker)
        self._command = [*command(params), "--folder", str(folder)]
        environment = {**environment, "TOKKA_BROKER": broker or ""}
        self._child = Child("jobs", logs / "jobs.log", environment, retry_seconds=RETRY_SECONDS)

    @property
    def pids(self) -> list[int]:
        """The running process, if any."""
        return self._child.pids

    def keep(self) -> None:
        """Start it when it should run and does not."""
        if self.socket:
            self._child.reap()
            self._child.start(self._command, "jobs")

    def stop(self) -> None:
        """End it; what it held goes back to the queue."""
        self._child.stop()


def command(params: Params) -> list[str]:
    """The command line of a process that consumes jobs, without a way in over HTTP."""
    serving = params.serving
    wanted = serving.asynchronous
    return [
        sys.executable, "-P", "-m", "tokka.serving.asynchronous.process", "--name", params.registry.model,
        "--tries", str(wanted.tries), "--concurrent", str(wanted.concurrent),
        "--result-days", str(wanted.result_days),
        "--max-rows", str(serving.max_rows), "--max-body-bytes", str(serving.max_body_bytes),
    ]  # fmt: skip
