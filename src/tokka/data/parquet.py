"""Parquet, batch by batch: dictionary pages stay dictionaries, so that a small file cannot fill the memory."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tokka.data.records import Record, Table, required_columns
from tokka.errors import TokkaError
from tokka.sections import Data, Task

BATCH_ROWS = 1024
SMALLER = "use a smaller file, or raise data.max_bytes if the machine has the memory"


def open_table(path: Path, task: Task, limits: Data) -> Table:
    """A Parquet file; a record's `line` is the row's number from 1.

    Raises:
        TokkaError: the file is broken; while records are read, it has no rows, or unfolds to more than data.max_bytes.
    """
    with _translated(path):
        file = pq.ParquetFile(path)
    header = [unicodedata.normalize("NFC", name) for name in file.schema_arrow.names]
    return Table(header, lambda here: _records(path, file, list(required_columns(here)), limits))


def _records(path: Path, plain: pq.ParquetFile, names: list[str], limits: Data) -> Iterator[Record]:
    _check_bounds(path, plain.metadata, limits)
    spelled = {unicodedata.normalize("NFC", name): name for name in plain.schema_arrow.names}
    columns = [spelled[name] for name in names]
    textual = [name for name in columns if _is_textual(plain.schema_arrow.field(name).type)]
    line, unfolded = 0, 0
    with _translated(path):
        for batch in pq.ParquetFile(path, read_dictionary=textual).iter_batches(batch_size=BATCH_ROWS, columns=columns):
            for values in zip(*(_values(batch.column(name)) for name in columns), strict=True):
                line += 1
                unfolded += sum(len(value) for value in values if isinstance(value, str | bytes))
                if unfolded > limits.max_bytes:
                    raise TokkaError(
                        f"{path}, row {line}: the text unfolds to more than data.max_bytes = {limits.max_bytes:,}",
                        SMALLER,
                    )
                yield Record(line, dict(zip(names, values, strict=True)), "")


def _check_bounds(path: Path, metadata: pq.FileMetaData, limits: Data) -> None:
    if metadata.num_rows == 0:
        raise TokkaError(f"{path} has no rows", "a table with at least one row is needed")
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > limits.max_bytes:
        raise TokkaError(
            f"{path} has more than data.max_bytes = {limits.max_bytes:,} bytes decompressed ({size:,})", SMALLER
        )


def _is_textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _values(column: pa.Array) -> list[object]:
    """The cells as plain values: a time in UTC, a number of few bits by its shortest decimal, as CSV would have it."""
    if isinstance(column, pa.DictionaryArray):
        words = _values(column.dictionary)
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        narrow = kind.to_pandas_dtype()
        return [None if value is None else float(str(narrow(value))) for value in column.to_pylist()]
    return list(column.to_pylist())


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        hint = "it was cut off or altered: copy it again"
        raise TokkaError(f"{path} cannot be read as Parquet: {reason}", hint) from None
