"""Evaluations whose details are to be completed: one request file each in TOKKA_HOME/evaluations; runs that go on."""

import fcntl
import os
from pathlib import Path

# In a run of `tokka run` this variable names the run's folder.
RUN_FOLDER = "TOKKA_RUN_FOLDER"
# The temporary folder of a run's tasks, in the run's folder for as long as it runs.
TEMPORARY = "tmp"
# In a run's folder: locked by whoever launched it and by its pipeline, so until the last of both has ended.
LOCK = "run.lock"


def folder(home: Path) -> Path:
    """Where the requests wait."""
    return home / "evaluations"


def waiting(home: Path) -> list[Path]:
    """The requests, oldest first."""
    return [path for _, path in sorted((_time(path), path) for path in folder(home).glob("*.json"))]


def is_time(home: Path) -> bool:
    """Whether a request waits and no run goes on."""
    return bool(waiting(home)) and not any(goes_on(run) for run in (home / "runs").glob("*/"))


def hold(run: Path) -> int:
    """Say that a run goes on; until the descriptor is closed here and in every child that inherits it."""
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def goes_on(run: Path) -> bool:
    """Whether a run still goes on: a process holds it, which the kernel ends with that process."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _time(path: Path) -> float:
    """When it was written; one that is done meanwhile is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
