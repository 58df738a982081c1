"""One labelled message in canonical form, and its way to and from Arrow tables.

table = to_table(rows, task)          # columns text, target [, text_pair, group, time, slice_<name>]
rows = from_table(table, task)
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files
from tokka.errors import TokkaError
from tokka.params import Task


class Row(NamedTuple):
    """A message with what is known about it; what the task does not name is the empty string.

    `target` is a str for classification and a finite float for regression; `time` is ISO 8601; `slices` stands
    in the order of `task.slices`.
    """

    text: str
    text_pair: str = ""
    target: str | float = ""
    group: str = ""
    time: str = ""
    slices: tuple[str, ...] = ()


def columns(task: Task) -> list[str]:
    """The canonical columns that this task has, in order."""
    optional = [name for name in ("text_pair", "group", "time") if getattr(task, name)]
    return ["text", "target", *optional, *(f"slice_{name}" for name in task.slices)]


def to_table(rows: Sequence[Row], task: Task) -> pa.Table:
    """Rows as an Arrow table with the canonical columns: strings, and float64 for a regression target."""
    slices = [f"slice_{name}" for name in task.slices]
    cells = {name: [getattr(row, name) for row in rows] for name in columns(task) if name not in slices}
    cells |= {name: [row.slices[place] for row in rows] for place, name in enumerate(slices)}
    numbers = {"target"} if task.type == "regression" else set()
    return pa.table({name: pa.array(cells[name], pa.float64() if name in numbers else pa.string()) for name in cells})


def from_table(table: pa.Table, task: Task) -> list[Row]:
    """What `to_table` made of the rows, as rows again.

    Raises:
        TokkaError: a canonical column of the task is not in the table.
    """
    missing = [name for name in columns(task) if name not in table.column_names]
    if missing:
        raise TokkaError(
            f"prepared rows have no column {missing[0]!r}, only {', '.join(table.column_names)}",
            "validate the data again: task in params.yaml has changed since",
        )
    column = {name: table[name].to_pylist() for name in columns(task)}
    slices = zip(*(column[f"slice_{name}"] for name in task.slices), strict=True)
    found = zip(*(column.get(name, [""] * table.num_rows) for name in Row._fields[:-1]), strict=True)
    return [Row._make((*cells, next(slices, ()))) for cells in found]


def row_id(row: Row) -> str:
    """16 hexadecimal digits of the sha256 of the text, and of the pair where there is one."""
    content = json.dumps([row.text, row.text_pair], ensure_ascii=False) if row.text_pair else row.text
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def digest(rows: Iterable[Row]) -> str:
    """The sha256 over the rows' content, whatever their order and whatever wrote the Parquet file."""
    total = hashlib.sha256()
    for row in sorted(rows):
        total.update(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return total.hexdigest()


def write(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write_bytes(path, sink.getvalue().to_pybytes())


def load(path: Path) -> pa.Table:
    """Read a Parquet file of ours.

    Raises:
        TokkaError: the file is missing or broken.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TokkaError(f"{path} cannot be read as Parquet: {reason}", "run the step that makes it again") from None
