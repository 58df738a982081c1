"""Columns that a file may lack: a time, and the slices; what is learned does not depend on them.

here = present(params.task, header)              # the task without what this file does not have
rows = padded(rows, here, params.task)           # a slice that it lacks is `unknown`
"""

import difflib
from collections.abc import Sequence

from tokka import progress
from tokka.data.rows import Row
from tokka.params import Task

UNKNOWN = "unknown"
# Nearer than this, a missing column is a typing error, and reading refuses it with the right name.
TYPING_ERROR = 0.75


def present(task: Task, columns: Sequence[str]) -> Task:
    """The task without time and slices that the file has no column for, nor one of nearly that name."""
    absent = [name for name in (task.time, *task.slices) if name and _is_absent(name, columns)]
    if not absent:
        return task
    named = ", ".join(repr(name) for name in absent)
    progress.report("validate_data", f"no column {named}: left out (task.time, task.slices)")
    slices = tuple(name for name in task.slices if name not in absent)
    return task.model_copy(update={"time": None if task.time in absent else task.time, "slices": slices})


def padded(rows: Sequence[Row], here: Task, task: Task) -> list[Row]:
    """Rows that were read with the slices of `here`, with those of `task`."""
    if here.slices == task.slices:
        return list(rows)
    return [row._replace(slices=_all_slices(row.slices, here.slices, task.slices)) for row in rows]


def _all_slices(values: Sequence[str], names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    known = dict(zip(names, values, strict=True))
    return tuple(known.get(name, UNKNOWN) for name in wanted)


def _is_absent(name: str, columns: Sequence[str]) -> bool:
    return name not in columns and not difflib.get_close_matches(name, columns, n=1, cutoff=TYPING_ERROR)
