"""Parquet, batch by batch: dictionary pages stay dictionaries, so that a small file cannot fill the memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokka.data.records import Record, check_header, required_columns
from tokka.errors import TokkaError
from tokka.params import Data, Task

BATCH_ROWS = 1024


def read(path: Path, task: Task, limits: Data) -> Iterator[Record]:
    """The records of a Parquet file; `line` is the row's number from 1.

    Raises:
        TokkaError: the file is broken, has too many rows, or unfolds to more than data.max_bytes.
        UsageError: a column of the task is missing.
    """
    try:
        plain = pq.ParquetFile(path)
        check_header(path, plain.schema_arrow.names, task)
        _check_bounds(path, plain, limits)
        yield from _records(path, list(required_columns(task)), plain.schema_arrow, limits)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TokkaError(
            f"{path} cannot be read as Parquet: {reason}", "it was cut off or altered: copy it again"
        ) from None


def header(path: Path, limits: Data) -> list[str]:
    """The column names of a Parquet file.

    Raises:
        TokkaError: the file is broken.
    """
    try:
        return list(pq.ParquetFile(path).schema_arrow.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise TokkaError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "copy it again") from None


def _check_bounds(path: Path, file: pq.ParquetFile, limits: Data) -> None:
    metadata = file.metadata
    if metadata.num_rows == 0:
        raise TokkaError(f"{path} has no rows", "a table with at least one row is needed")
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > limits.max_bytes:
        raise TokkaError(
            f"{path} has more than data.max_bytes = {limits.max_bytes:,} bytes decompressed ({size:,})",
            "use a smaller file, or raise data.max_bytes if the machine has the memory",
        )


def _records(path: Path, names: list[str], schema: pa.Schema, limits: Data) -> Iterator[Record]:
    textual = [name for name in names if pa.types.is_string(schema.field(name).type)]
    file = pq.ParquetFile(path, read_dictionary=textual)
    line, unfolded = 0, 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
        cells = [_values(batch.column(name)) for name in names]
        for values in zip(*cells, strict=True):
            line += 1
            unfolded += sum(len(value) for value in values if isinstance(value, str))
            if unfolded > limits.max_bytes:
                raise TokkaError(
                    f"{path}, row {line}: the text unfolds to more than data.max_bytes = {limits.max_bytes:,}",
                    "use a smaller file, or raise data.max_bytes if the machine has the memory",
                )
            found = dict(zip(names, values, strict=True))
            yield Record(line, found, "")


def _values(column: Any) -> list[Any]:
    """Python values; equal strings of a dictionary column are one object, whatever the number of rows."""
    try:
        if isinstance(column, pa.DictionaryArray):
            words = column.dictionary.to_pylist()
            return [None if index is None else words[index] for index in column.indices.to_pylist()]
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        raise TokkaError(f"a Parquet string column is not UTF-8: {error}", "write the file again as UTF-8") from None
