"""Strict reading of CSV, TSV, JSON-lines and Parquet: a bad file is refused, a bad row is quarantined and counted.

reading = read(Path("messages.csv.gz"), params.task, params.data)
reading.rows, reading.quarantined, reading.digest
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tokka import files, progress
from tokka.data import delimited, fetching, json_lines, optional_columns, parquet, streams
from tokka.data.canonical import Unusable, to_row
from tokka.data.records import RAW_CHARACTERS, Record
from tokka.data.rows import Row
from tokka.errors import Refused, TokkaError
from tokka.params import Data, Params, Task
from tokka.settings import Settings


class Reader(Protocol):
    """What a module that reads one format offers."""

    def header(self, path: Path, limits: Data) -> list[str]:
        """The column names of a file."""
        ...

    def read(self, path: Path, task: Task, limits: Data) -> Iterator[Record]:
        """The records of a file, one by one."""
        ...


FORMATS: dict[str, Reader] = {
    ".csv": delimited,
    ".tsv": delimited,
    ".txt": delimited,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_lines,
    ".parquet": parquet,
    ".pq": parquet,
}
REPORT_EVERY = 100_000


@dataclass(frozen=True)
class Reading:
    """What a file held: its usable rows with their line numbers, the quarantined ones, the sha256 of its bytes."""

    path: Path
    digest: str
    rows: list[Row] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Rows found, usable or not."""
        return len(self.rows) + len(self.quarantined)


def read(path: Path, task: Task, limits: Data) -> Reading:
    """Read a file into canonical rows.

    Raises:
        TokkaError: the file cannot be trusted as a whole; the message has file, line and reason.
        UsageError: a column that the task names does not exist; the message has those that do.
    """
    here = optional_columns.present(task, header(path, limits))
    records = _reader(path, limits).read(path, here, limits)
    reading = Reading(path, files.digest_file(path))
    for record in records:
        _take(record, reading, here, limits)
        if reading.read > limits.max_rows:
            raise TokkaError(
                f"{path}, line {record.line}: more than data.max_rows = {limits.max_rows:,} rows",
                "use fewer rows, or raise data.max_rows if the machine has the memory",
            )
        if reading.read % REPORT_EVERY == 0:
            progress.report("validate_data", f"{reading.read:,} rows read")
    if reading.read == 0:
        raise TokkaError(f"{path} has a header and no rows", "a table with at least one row is needed")
    reading.rows[:] = optional_columns.padded(reading.rows, here, task)
    return reading


def first_row(params: Params, settings: Settings) -> Row | None:
    """The first usable row of data.source, with both texts of a pair; None when there is none.

    Raises:
        TokkaError: as `read`.
    """
    path = fetching.fetch(params.data.source, params.data, settings)
    here = optional_columns.present(params.task, header(path, params.data))
    for record in _reader(path, params.data).read(path, here, params.data):
        try:
            if record.cells is not None:
                return to_row(record.cells, here, params.data)
        except Unusable:
            continue
    return None


def records(path: Path, task: Task, limits: Data) -> Iterator[Record]:
    """The records of a file with the columns that the task names, one by one and not yet judged.

    Raises:
        TokkaError, UsageError: as `read`.
    """
    return _reader(path, limits).read(path, task, limits)


def header(path: Path, limits: Data) -> list[str]:
    """The column names of a file.

    Raises:
        TokkaError: as `read`.
    """
    return _reader(path, limits).header(path, limits)


def check_quarantine(reading: Reading, limits: Data) -> None:
    """Stop when more rows are bad than may be believed, or when all are.

    Raises:
        Refused: the message has the share, the most frequent reason and the first line.
    """
    bad, share = len(reading.quarantined), len(reading.quarantined) / reading.read
    if not bad or (reading.rows and share <= limits.max_quarantined_share):
        return
    first = reading.quarantined[0]
    how_many = "all" if not reading.rows else f"{bad:,} of"
    raise Refused(
        f"{reading.path}: {how_many} {reading.read:,} rows are quarantined "
        f"(data.max_quarantined_share = {limits.max_quarantined_share:g}); line {first['line']}: {first['reason']}",
        "mend the rows listed in quarantine.jsonl: "
        + ", ".join(f"{why} ({count})" for why, count in reasons(reading)[:3]),
    )


def reasons(reading: Reading) -> list[tuple[str, int]]:
    """Why rows were quarantined, without the values, most frequent first."""
    return Counter(entry["kind"] for entry in reading.quarantined).most_common()


def write_quarantine(path: Path, readings: list[Reading]) -> None:
    """Write quarantined rows as JSON-lines: file, line, reason and the beginning of the raw content."""
    entries = [{"file": reading.path.name, **entry} for reading in readings for entry in reading.quarantined]
    files.write_text(path, "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in entries))


def _reader(path: Path, limits: Data) -> Reader:
    streams.check_size(path, limits)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    reader = FORMATS.get(suffix)
    if reader is None or (packed and reader is parquet):
        raise TokkaError(
            f"{path}: {''.join(suffixes[-2:]) or 'no ending'!r} is not a format that is read",
            "use .csv, .tsv, .jsonl (each also with .gz) or .parquet",
        )
    return reader


def _take(record: Record, reading: Reading, task: Task, limits: Data) -> None:
    reason = record.reason
    if record.cells is not None:
        try:
            row = to_row(record.cells, task, limits)
        except Unusable as error:
            reason = str(error)
        else:
            reading.rows.append(row)
            reading.lines.append(record.line)
            return
    raw = record.raw[:RAW_CHARACTERS] or repr(record.cells)[:RAW_CHARACTERS]
    kind = reason.partition(" is ")[0].partition(", ")[0].partition(": ")[0]
    reading.quarantined.append({"line": record.line, "reason": reason, "kind": kind, "raw": raw})
