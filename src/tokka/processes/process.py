"""What processes of the stack have in common: a name, a priority, an end, an identity that outlasts their number."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

# Niceness of a worker that starts (about a quarter of a contested core) and of a background service (a tenth).
STARTING_NICENESS, BACKGROUND_NICENESS = 5, 10
# Options of prctl(2).
_SET_PARENT_DEATH_SIGNAL, _SET_NAME, _SET_CHILD_SUBREAPER = 1, 15, 36
# Loaded at import: between fork and exec nothing may be imported or allocated that a lock protects.
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# One thread per process: more threads than free cores make every one of them slower (scale by processes).
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, however it ends; Linux only, elsewhere nothing.

    Raises SystemExit when the parent has ended already.
    """
    if LIBC is not None:
        LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (Linux: child subreaper)."""
    if LIBC is not None:
        LIBC.prctl(_SET_CHILD_SUBREAPER, 1)


def rename(name: str) -> None:
    """Give this process a name of at most 15 letters, for `ps` and `top`."""
    if LIBC is not None:
        LIBC.prctl(_SET_NAME, name.encode()[:15])


def lower_priority() -> None:
    """Give this thread the niceness of a start, or leave a higher one (Linux: a thread has its own)."""
    thread = threading.get_native_id()
    # To lower a niceness needs a right that a container has not.
    own = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, max(own, STARTING_NICENESS))


def identity(pid: int) -> float:
    """When a live process started, in seconds since the machine did; 0.0 when there is none: pids are used again.

    Not since 1970: that is computed from the wall clock, and a process must not become another one when it is set.
    """
    try:
        if sys.platform == "linux":
            return _since_boot(pid)
        found = psutil.Process(pid)
        return 0.0 if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except (OSError, psutil.Error):
        return 0.0


def _since_boot(pid: int) -> float:
    # The second field is a name in brackets, which may hold anything; the third is the state, the 22nd the start.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return 0.0 if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_same(pid: int, started: float) -> bool:
    """Whether process `pid` lives and is the one that started at `started`."""
    return started > 0 and abs(identity(pid) - started) < 0.05


def send(pid: int, started: float, number: int) -> None:
    """Send a signal to a process if it still is the one that is meant."""
    if is_same(pid, started):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def wait_gone(processes: dict[int, float], seconds: float) -> dict[int, float]:
    """Wait until processes {pid: started} have ended, and return those that have not."""
    deadline = time.monotonic() + seconds
    while True:
        alive = {pid: started for pid, started in processes.items() if is_same(pid, started)}
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.02)
