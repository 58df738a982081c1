"""Strict reading of CSV, TSV, JSON-lines and Parquet: a bad file is refused, a bad row is quarantined and counted.

What reads raises TokkaError for a file that cannot be trusted as a whole, with file, line and reason, and UsageError
for a column that the task names and the file lacks, with those that it has.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypedDict

from tokka import files, progress
from tokka.data import delimited, fetching, json_lines, parquet, streams
from tokka.data import rows as canonical
from tokka.data.canonical import Unusable, to_row
from tokka.data.records import RAW_CHARACTERS, Record, Table, check_header, padded, present
from tokka.data.rows import Row
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import Params
from tokka.sections import Data, Task
from tokka.settings import Settings

FORMATS: dict[str, Callable[[Path, Task, Data], Table]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), delimited.open_table),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), json_lines.open_table),
    **dict.fromkeys((".parquet", ".pq"), parquet.open_table),
}
REPORT_EVERY = 100_000
SAMPLED_RECORDS = 20_000
FEEDBACK_TARGETS = ("label", "target", "value")


class Quarantined(TypedDict):
    """A row that is not used: why, the reason without its values (`kind`), and the beginning of its content."""

    line: int
    reason: str
    kind: str
    raw: str


@dataclass
class Reading:
    """What a file held: its usable rows with their line numbers, the quarantined ones, the sha256 of its bytes.

    Where batches are taken out while it is read, the lists hold the last one, and only the counts are of all.
    """

    path: Path
    digest: str
    rows: list[Row] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    kept: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    first: Quarantined | None = None
    characters: int = 0

    @property
    def bad(self) -> int:
        """Rows in quarantine."""
        return self.kinds.total()

    @property
    def read(self) -> int:
        """Rows found, usable or not."""
        return self.kept + self.bad

    def empty(self) -> None:
        """Forget the rows, not their counts."""
        for found in (self.rows, self.lines, self.quarantined):
            found.clear()
        self.characters = 0

    @property
    def _is_full(self) -> bool:
        many = len(self.rows) + len(self.quarantined) >= canonical.BATCH_ROWS
        return many or self.characters >= canonical.BATCH_CHARACTERS


Taken = Callable[[Reading], None]


def read(path: Path, task: Task, limits: Data, take: Taken | None = None) -> Reading:
    """Read a file into canonical rows; `take` is handed them batch by batch, else all are in what is returned."""
    here, found = records(path, task, limits)
    reading = Reading(path, files.digest_file(path))

    def hand_over() -> None:
        reading.rows[:] = padded(reading.rows, here, task)
        if take:
            take(reading)
            reading.empty()

    for record in found:
        _take(record, reading, here, limits)
        if reading.read > limits.max_rows:
            raise TokkaError(
                f"{path}, line {record.line}: more than data.max_rows = {limits.max_rows:,} rows",
                "use fewer rows, or raise data.max_rows if the machine has the memory",
            )
        if reading.read % REPORT_EVERY == 0:
            progress.report("validate_data", f"{reading.read:,} rows read")
        if take and reading._is_full:
            hand_over()
    if reading.read == 0:
        raise TokkaError(f"{path} has a header and no rows", "a table with at least one row is needed")
    hand_over()
    return reading


def read_feedback(path: Path, params: Params, take: Taken) -> Reading:
    """Read labelled feedback into rows of the run's task, from its columns, or text and label (or target, value).

    Time and slices may lack; UsageError without text or label, or without the pair or group that the task has.
    """
    task, header = params.task, open_table(path, params.task, params.data).header
    target = next((name for name in (task.target, *FEEDBACK_TARGETS) if name in header), None)
    text = next((name for name in (task.text, "text") if name in header), None)
    if target is None or text is None:
        raise UsageError(f"{path}: feedback needs the columns 'text' and 'label', found {', '.join(header)}")
    for name, column in (("text_pair", task.text_pair), ("group", task.group)):
        if column and column not in header:
            raise UsageError(f"{path}: feedback has no column {column!r} (task.{name})", "log it with the feedback")
    time = next((name for name in (task.time, "time") if name in header), None) if task.time else None
    slices = tuple(name for name in task.slices if name in header)
    known = task.model_copy(update={"text": text, "target": target, "time": time, "slices": slices})

    def with_slices(found: Reading) -> None:
        found.rows[:] = padded(found.rows, known, task)
        take(found)

    return read(path, known, params.data, with_slices)


def first_row(params: Params, settings: Settings) -> Row | None:
    """The first usable row of data.source, with both texts of a pair; None when there is none."""
    path = fetching.fetch(params.data.source, params.data, settings)
    here, found = records(path, params.task, params.data)
    for record in found:
        try:
            if record.cells is not None:
                return to_row(record.cells, here, params.data)
        except Unusable:
            continue
    return None


def sample_texts(params: Params, settings: Settings, most: int) -> list[str]:
    """Texts of usable rows among the first SAMPLED_RECORDS of data.source, evenly spread, at most `most` of them.

    Second texts of pairs are texts too.
    """
    path = fetching.fetch(params.data.source, params.data, settings)
    here, found = records(path, params.task, params.data)
    texts: list[str] = []
    for record in islice(found, SAMPLED_RECORDS):
        with suppress(Unusable):
            row = to_row(record.cells, here, params.data) if record.cells is not None else None
            texts += [text for text in (row.text, row.text_pair) if text] if row else []
    return texts[:: max(1, -(-len(texts) // most))]


def records(path: Path, task: Task, limits: Data) -> tuple[Task, Iterator[Record]]:
    """The task without the optional columns that the file lacks, and the file's records, not yet judged."""
    table = open_table(path, task, limits)
    here = present(task, table.header)
    check_header(path, table.header, here)
    return here, table.records(here)


def open_table(path: Path, task: Task, limits: Data) -> Table:
    """The file in the format that its name says."""
    streams.check_size(path, limits)
    *_, suffix, packing = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    packed = packing == ".gz"
    opener = FORMATS.get(suffix if packed else packing)
    if opener is None or (packed and opener is parquet.open_table):
        raise TokkaError(
            f"{path}: {''.join(path.suffixes[-2:]).lower() or 'no ending'!r} is not a format that is read",
            "use .csv, .tsv, .jsonl (each also with .gz) or .parquet",
        )
    return opener(path, task, limits)


def check_quarantine(reading: Reading, limits: Data) -> None:
    """Refuse when all rows, or more than data.max_quarantined_share of them, are bad: share, reason, first line."""
    first, share = reading.first, reading.bad / reading.read
    if first is None or (reading.kept and share <= limits.max_quarantined_share):
        return
    how_many = f"{reading.bad:,} of" if reading.kept else "all"
    raise Refused(
        f"{reading.path}: {how_many} {reading.read:,} rows are quarantined "
        f"(data.max_quarantined_share = {limits.max_quarantined_share:g}); line {first['line']}: {first['reason']}",
        "mend the rows listed in quarantine.jsonl: "
        + ", ".join(f"{why} ({count})" for why, count in reading.kinds.most_common(3)),
    )


def quarantine_lines(reading: Reading) -> str:
    """Quarantined rows as JSON-lines: file, line, reason and the beginning of the raw content."""
    entries = ({"file": reading.path.name, **entry} for entry in reading.quarantined)
    return "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in entries)


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
            reading.kept += 1
            reading.characters += len(row.text) + len(row.text_pair)
            return
    raw = record.raw[:RAW_CHARACTERS] or repr(record.cells)[:RAW_CHARACTERS]
    kind = reason.partition(" is ")[0].partition(", ")[0].partition(": ")[0]
    reading.quarantined.append({"line": record.line, "reason": reason, "kind": kind, "raw": raw})
    reading.first = reading.first or reading.quarantined[0]
    reading.kinds[kind] += 1
