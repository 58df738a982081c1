"""Evaluations whose details are to be completed: one request file each in TOKKA_HOME/evaluations.

waiting(home)         # the requests, oldest first
is_time(home)         # whether there is one, and no run of this home needs the processor
"""

from pathlib import Path

import psutil

# In a run of `tokka run` this variable names the run's folder.
RUN_FOLDER = "TOKKA_RUN_FOLDER"
# The temporary folder of a run's tasks, in the run's folder for as long as it runs.
TEMPORARY = "tmp"


def folder(home: Path) -> Path:
    """Where the requests wait."""
    return home / "evaluations"


def waiting(home: Path) -> list[Path]:
    """The requests, oldest first."""
    return sorted(folder(home).glob("*.json"), key=lambda path: path.stat().st_mtime)


def is_time(home: Path) -> bool:
    """Whether a request waits and no run goes on."""
    return bool(waiting(home)) and not any(goes_on(run) for run in (home / "runs").glob("*/"))


def goes_on(run: Path) -> bool:
    """Whether a run still goes on: its temporary folder is there, and the process whose number is in its name."""
    return (run / TEMPORARY).is_dir() and psutil.pid_exists(int(run.name.split("-")[2]))
