"""The HTML reports that a home holds, as the admin page lists and serves them.

listing(home)                        # newest first: [{"name": …, "title": …, "time": …}]
path_of(home, "runs/…/report.html")  # None for whatever is no report of this home
"""

from pathlib import Path
from typing import Any

FOLDERS = ("runs", "rollouts")
TITLES = {
    "report": "evaluation report",
    "drift": "drift report",
    "predictions": "what both said in the shadow, by Evidently",
    "predictions_live": "what both said live, by Evidently",
    "docs": "data docs",
}
SHOWN = 8
# Written by the pipeline's tasks, whose artifacts have no ending, and beside a rollout.
PATTERNS = {"runs": "*/artifacts/*/*/*", "rollouts": "*/*.html"}


def listing(home: Path) -> list[dict[str, Any]]:
    """The newest reports: name below the home, title, time (seconds since 1970)."""
    every = [path for folder in FOLDERS for path in (home / folder).glob(PATTERNS[folder])]
    found = [path for path in every if path_of(home, path.relative_to(home).as_posix())]
    newest = sorted(found, key=_time, reverse=True)[:SHOWN]
    return [{"name": path.relative_to(home).as_posix(), "title": _title(path), "time": _time(path)} for path in newest]


def path_of(home: Path, name: str) -> Path | None:
    """The file of a report that `listing` could name; nothing else below the home is given away."""
    path = home / name
    parts = Path(name).parts
    if not parts or parts[0] not in FOLDERS or ".." in parts or not _is_report(path):
        return None
    return path if path.resolve().is_relative_to(home.resolve()) else None


def _title(path: Path) -> str:
    # The step's folder tells the two reports of a run apart.
    return TITLES["drift"] if path.parent.name == "detect-drift" else TITLES[path.stem]


def _is_report(path: Path) -> bool:
    return path.stem in TITLES and path.suffix in ("", ".html") and path.is_file()


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
