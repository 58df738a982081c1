"""What every file format is read into before a row is judged: line number, cells by column, raw content."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokka.errors import TokkaError, UsageError
from tokka.params import Task

RAW_CHARACTERS = 500


class Record(NamedTuple):
    """One row as found: `cells` by column name, or None with the `reason` why it is no row."""

    line: int
    cells: Mapping[str, Any] | None
    raw: str
    reason: str = ""


def broken(line: int, raw: str, reason: str) -> Record:
    """A record that goes to quarantine."""
    return Record(line, None, raw[:RAW_CHARACTERS], reason)


def required_columns(task: Task) -> dict[str, str]:
    """The columns that the task names, each with the key in params.yaml that names it."""
    named = {
        "text": task.text,
        "text_pair": task.text_pair,
        "target": task.target,
        "group": task.group,
        "time": task.time,
    }
    found = {column: f"task.{key}" for key, column in named.items() if column}
    return found | {column: "task.slices" for column in task.slices if column not in found}


def check_header(path: Path, header: Sequence[str], task: Task) -> None:
    """Refuse a header with a column twice, or without one that the task needs.

    Raises:
        TokkaError: a name stands twice.
        UsageError: a column is missing; the message has those that exist and the nearest one.
    """
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise TokkaError(
            f"{path}, line 1: column {twice[0]!r} stands more than once in the header", "rename one of them"
        )
    for column, key in required_columns(task).items():
        if column not in header:
            existing = ", ".join(repr(name) for name in header[:20]) + (", …" if len(header) > 20 else "")
            near = difflib.get_close_matches(column, header, n=1, cutoff=0.5)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            hint = f"set {key} in params.yaml, or --set {key}={near[0] if near else 'COLUMN'}"
            raise UsageError(f"{path}: no column {column!r} ({key}); the columns are {existing}{guess}", hint)
