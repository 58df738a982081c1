"""One labelled message in canonical form, and its way to and from Arrow tables."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files
from tokka.errors import TokkaError
from tokka.sections import Task

# Splits that may come as files of their own, beside the rows that are split here.
OFFICIAL: tuple[Literal["validation"], Literal["test"]] = ("validation", "test")
# So much of any table is in memory at once: rows of 20,000 characters are fewer.
BATCH_ROWS = 1 << 16
BATCH_CHARACTERS = 1 << 25
_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class Row(NamedTuple):
    """A message with what is known about it; what the task does not name is the empty string.

    `target` is a str, or a finite float for regression; `time` is ISO 8601; `slices` in the order of `task.slices`.
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
    """What `to_table` made of the rows, as rows again; TokkaError when the table lacks a column of the task."""
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


def line(row: Row) -> bytes:
    """What a digest takes of a row."""
    return _encoded(row).encode() + b"\n"


def digest(rows: Iterable[Row]) -> str:
    """The sha256 over the content of rows in order, whatever wrote the Parquet file."""
    total = hashlib.sha256()
    for row in rows:
        total.update(line(row))
    return total.hexdigest()


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists of at most BATCH_ROWS rows and about BATCH_CHARACTERS of text."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text) + len(row.text_pair)
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def write(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all."""
    with writing(path, table.schema) as append:
        append(table)


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Write a Parquet file, whole or not at all, one table after the other: each becomes a row group."""
    with files.written(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        written = 0

        def append(table: pa.Table) -> None:
            nonlocal written
            if table.num_rows:
                writer.write_table(table)
                written += table.num_rows

        yield append
        if not written:
            writer.write_table(schema.empty_table())


def stream(path: Path, task: Task) -> Iterator[Row]:
    """The rows of a Parquet file of ours, of which one batch is in memory; TokkaError as `load` and `from_table`."""
    with _readable(path):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS):
            yield from from_table(pa.Table.from_batches([batch]), task)


def load(path: Path) -> pa.Table:
    """Read a Parquet file of ours; TokkaError when it is missing or broken."""
    with _readable(path):
        return pq.read_table(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TokkaError(f"{path} cannot be read as Parquet: {reason}", "run the step that makes it again") from None
