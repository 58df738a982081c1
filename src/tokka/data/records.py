"""What every file format is read into before a row is judged: the header, then line number, cells and raw content."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tokka import progress
from tokka.data.rows import Row
from tokka.errors import TokkaError, UsageError
from tokka.sections import Task

RAW_CHARACTERS = 500
UNKNOWN = "unknown"
# Nearer than this, a missing column is a typing error, and reading refuses it with the right name.
TYPING_ERROR = 0.75


class Record(NamedTuple):
    """One row as found: `cells` by column name, or None with the `reason` why it is no row."""

    line: int
    cells: Mapping[str, object] | None
    raw: str
    reason: str = ""


class Table(NamedTuple):
    """An open file: its column names, and its records, once, with the columns of a task."""

    header: list[str]
    records: Callable[[Task], Iterator[Record]]


def broken(line: int, raw: str, reason: str) -> Record:
    """A record that goes to quarantine."""
    return Record(line, None, raw[:RAW_CHARACTERS], reason)


def required_columns(task: Task) -> dict[str, str]:
    """The columns that the task names, each with the key in params.yaml that names it."""
    keys = ("text", "text_pair", "target", "group", "time")
    found = {column: f"task.{key}" for key in keys if (column := getattr(task, key))}
    return found | {column: "task.slices" for column in task.slices if column not in found}


def check_header(path: Path, header: Sequence[str], task: Task) -> None:
    """Refuse a header with a column twice (TokkaError), or without one that the task needs (UsageError)."""
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
            if not near:
                hint += "; is there no header, then by numbers: --set task.text=0 --set task.target=1"
            raise UsageError(f"{path}: no column {column!r} ({key}); the columns are {existing}{guess}", hint)


def present(task: Task, header: Sequence[str]) -> Task:
    """The task without time and slices that the file has no column for, nor one of nearly that name."""
    # An exact name is its own closest match.
    optional = [name for name in (task.time, *task.slices) if name]
    absent = [name for name in optional if not difflib.get_close_matches(name, header, n=1, cutoff=TYPING_ERROR)]
    if not absent:
        return task
    progress.report("validate_data", f"no column {', '.join(map(repr, absent))}: left out (task.time, task.slices)")
    slices = tuple(name for name in task.slices if name not in absent)
    return task.model_copy(update={"time": None if task.time in absent else task.time, "slices": slices})


def padded(rows: Sequence[Row], here: Task, task: Task) -> list[Row]:
    """Rows that were read with the slices of `here`, with those of `task`; one that the file lacks is `unknown`."""
    known = (dict(zip(here.slices, row.slices, strict=True)) for row in rows)
    slices = (tuple(values.get(name, UNKNOWN) for name in task.slices) for values in known)
    return [row._replace(slices=values) for row, values in zip(rows, slices, strict=True)]
