"""Labelled feedback as further rows: columns text, label (or target, value), and where known time and slices."""

from pathlib import Path

from tokka.data import optional_columns, reading
from tokka.data.reading import Reading
from tokka.errors import UsageError
from tokka.params import Params, Task

TARGETS = ("label", "target", "value")


def read_feedback(path: Path, params: Params) -> Reading:
    """Read feedback into canonical rows of the run's task; a slice that feedback lacks is `unknown`.

    Raises:
        UsageError: it has no text or no label, or the task has pairs or groups and the feedback has not.
        TokkaError: as `reading.read`.
    """
    task, present = params.task, reading.header(path, params.data)
    target = next((name for name in (task.target, *TARGETS) if name in present), None)
    text = next((name for name in (task.text, "text") if name in present), None)
    if target is None or text is None:
        raise UsageError(f"{path}: feedback needs the columns 'text' and 'label', found {', '.join(present)}")
    for name, column in (("text_pair", task.text_pair), ("group", task.group)):
        if column and column not in present:
            raise UsageError(f"{path}: feedback has no column {column!r} (task.{name})", "log it with the feedback")
    time = next((name for name in (task.time, "time") if name and name in present), None) if task.time else None
    slices = tuple(name for name in task.slices if name in present)
    known = Task(
        type=task.type, text=text, target=target, text_pair=task.text_pair, group=task.group, time=time, slices=slices
    )
    found = reading.read(path, known, params.data)
    found.rows[:] = optional_columns.padded(found.rows, known, task)
    return found
