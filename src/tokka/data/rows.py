"""One labelled message in canonical form, and its way to and from Arrow tables.

table = to_table(rows, task)          # columns text, target [, text_pair, group, time, slice_<name>]
rows = from_table(table, task)
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    optional = [("text_pair", task.text_pair), ("group", task.group), ("time", task.time)]
    return [
        "text",
        "target",
        *(name for name, source in optional if source),
        *(f"slice_{name}" for name in task.slices),
    ]


def schema(task: Task) -> pa.Schema:
    """The Arrow types of the canonical columns: strings, and float64 for a regression target."""
    number = task.type == "regression"
    return pa.schema([(name, pa.float64() if number and name == "target" else pa.string()) for name in columns(task)])


def to_table(rows: Sequence[Row], task: Task) -> pa.Table:
    """Rows as an Arrow table with the canonical columns."""
    arrays = [pa.array([value(row, name, task) for row in rows], field.type) for name, field in _fields(task)]
    return pa.Table.from_arrays(arrays, schema=schema(task))


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
    blank = [""] * table.num_rows
    column = {name: table[name].to_pylist() for name in columns(task)}
    cuts = [column[f"slice_{name}"] for name in task.slices]
    slices = zip(*cuts, strict=True) if cuts else [()] * table.num_rows
    parts = [column.get(name, blank) for name in ("text", "text_pair", "target", "group", "time")]
    return [Row._make(cells) for cells in zip(*parts, slices, strict=True)]


def value(row: Row, name: str, task: Task) -> Any:
    """The cell of a row under a canonical column name."""
    if name.startswith("slice_"):
        return row.slices[task.slices.index(name.removeprefix("slice_"))]
    return getattr(row, name)


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


def _fields(task: Task) -> list[tuple[str, pa.Field]]:
    return [(field.name, field) for field in schema(task)]
