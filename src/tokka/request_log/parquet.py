"""Segments of the request log that no process writes any more, as Parquet; and the oldest of them, deleted.

The sealed file is whole before the open one goes, and readers then prefer it: a kill at any point loses nothing and
doubles nothing.
"""

import contextlib
import io
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

from tokka import files
from tokka.request_log import segments
from tokka.request_log.framing import LogRecord, parse

# An offset behind every record: all of a sealed segment was read.
ALL = sys.maxsize
# A process that ended a moment ago may come back under the same number.
IDLE_SECONDS = 600.0
# Rows that a reader has in memory at a time.
ROW_GROUP = 8192
_FACTS = b"tokka"


class _Facts(TypedDict):
    """What the file's metadata hold: damaged lines by the offset behind them, the newest record's time.

    predictions: answers to users, by version; none where the pipeline replayed any, which only a reader can tell from
    traffic. feedback: whether there is any. Segments that were sealed by earlier versions say neither.
    """

    torn: bool
    damaged: list[int]
    newest: float
    predictions: NotRequired[dict[str, int] | None]
    feedback: NotRequired[bool]


def is_due(folder: Path, now: float, days: float, most: float = math.inf) -> bool:
    """Whether there is something to seal, older than some days, or beyond some bytes, by names and stamps alone.

    A sealed segment is found old by its day, or by when it was sealed: at most a day after its newest record is.
    """
    for name in idle(folder, now):
        if (descriptor := segments.claim_all(segments.open_path(folder, name))) is not None:
            os.close(descriptor)
            return True
    if sum(size for _, size in _sizes(folder)) > most:
        return True
    oldest = now - days * segments.DAY_SECONDS
    for path in (segments.sealed_path(folder, name) for name in segments.names(folder)):
        # What is not sealed has no such file, and one that the service deletes meanwhile has none any more.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest or path.name < segments.day_of(oldest):
                return True
    return False


def idle(folder: Path, now: float) -> Iterator[str]:
    """The open segments that nobody has written to for a while."""
    for name in segments.names(folder):
        with contextlib.suppress(FileNotFoundError):
            if now - segments.open_path(folder, name).stat().st_mtime >= IDLE_SECONDS:
                yield name


def seal_all(folder: Path, now: float) -> int:
    """Seal every segment that is due, and return how many were; `now` in seconds since 1970."""
    return sum(seal(folder, name) for name in idle(folder, now))


def seal(folder: Path, name: str) -> bool:
    """Seal one segment; False when a process writes it, or it is gone."""
    path = segments.open_path(folder, name)
    descriptor = segments.claim_all(path)
    if descriptor is None:
        return False
    try:
        content = path.read_bytes()
        if content.strip(b"\n"):
            # A sealed file from before a kill is made again, from the same bytes.
            _write(segments.sealed_path(folder, name), content)
        path.unlink()
        files.sync_folder(folder)
    finally:
        os.close(descriptor)
    return True


def delete_before(folder: Path, moment: float) -> int:
    """Delete sealed segments whose newest record is older than a moment; returns how many there were."""
    deleted = 0
    for name in segments.names(folder):
        path, is_open = segments.sealed_path(folder, name), segments.open_path(folder, name).exists()
        facts = None if is_open else facts_of(path)
        if facts is not None and facts["newest"] < moment:
            path.unlink()
            deleted += 1
    return deleted


def delete_beyond(folder: Path, most: float) -> int:
    """Delete the oldest sealed segments until the rest has at most so many bytes; returns how many there were."""
    found = [(facts["newest"], path, size) for path, size in _sizes(folder) if (facts := facts_of(path))]
    total, deleted = sum(size for _, size in _sizes(folder)), 0
    for _, path, size in sorted(found):
        if total <= most:
            break
        path.unlink()
        total, deleted = total - size, deleted + 1
    return deleted


def _sizes(folder: Path) -> list[tuple[Path, int]]:
    """Segments that are sealed and nothing else, with their bytes."""
    found = []
    for name in segments.names(folder):
        with contextlib.suppress(FileNotFoundError):
            if not segments.open_path(folder, name).exists():
                found.append((path := segments.sealed_path(folder, name), path.stat().st_size))
    return found


def read_sealed(path: Path, since: float, offset: int) -> tuple[list[LogRecord], int, int] | None:
    """Records from `since` on, torn and damaged lines, all behind an offset of the segment; None when unreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = facts_of(path)
    if facts is None:
        return None
    counts = int(facts["torn"]), sum(end > offset for end in facts["damaged"])
    if facts["newest"] < since:
        return [], *counts
    try:
        wanted = [("time", ">=", since), ("end", ">", offset)]
        rows = pq.read_table(path, columns=["record"], filters=wanted).column("record").to_pylist()
    except (OSError, pa.ArrowException, ValueError):
        return None
    return [json.loads(row) for row in rows], *counts


def stream(path: Path, kind: str, ids: Collection[str] | None, rows: int) -> Iterator[LogRecord]:
    """The records of a kind in a sealed segment, so many rows in memory at a time; of some predictions, if named."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = None if ids is None else pa.array([name.encode(errors="replace").decode() for name in ids], pa.string())
    names = ["kind", "record"] if ids is None else ["kind", "prediction_id", "record"]
    with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=1 << 16) as file:
        for batch in file.iter_batches(rows, columns=names, use_threads=False):
            batch = batch.filter(pc.equal(batch.column("kind"), kind))
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column("prediction_id"), wanted))
            yield from map(json.loads, batch.column("record").to_pylist())


def _write(path: Path, content: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = parse(content)
    rows = [record for _, record in lines.records]
    newest = max((float(row["time"]) for row in rows), default=0.0)
    answers = [row for row in rows if row["kind"] == "prediction" and not row.get("shadow")]
    counts = Counter(str(row.get("version")) for row in answers)
    facts = _Facts(
        torn=lines.torn, damaged=lines.damaged, newest=newest,
        predictions=None if any(row.get("replayed") for row in answers) else counts,
        feedback=any(row["kind"] == "feedback" for row in rows),
    )  # fmt: skip
    columns = {
        "end": pa.array([end for end, _ in lines.records], pa.int64()),
        "time": pa.array([float(row["time"]) for row in rows], pa.float64()),
        "kind": pa.array([row["kind"] for row in rows], pa.string()),
        "prediction_id": pa.array(
            [row["prediction_id"].encode(errors="replace").decode() for row in rows], pa.string()
        ),
        # Escaped: a text that holds half a surrogate pair is no UTF-8, and Parquet takes nothing else.
        "record": pa.array([json.dumps(row, separators=(",", ":")) for row in rows], pa.string()),
    }
    output = io.BytesIO()
    table = pa.table(columns, metadata={_FACTS: json.dumps(facts).encode()})
    pq.write_table(table, output, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP)
    files.write_bytes(path, output.getvalue())
    path.chmod(0o600)


def facts_of(path: Path) -> _Facts | None:
    """What a sealed segment's metadata say; None when they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts: _Facts = json.loads(pq.read_schema(path).metadata[_FACTS])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return facts
