"""Segments of the request log that no process writes any more, as Parquet; and the oldest of them, deleted.

    sealed = seal_all(folder, now); deleted = delete_before(folder, moment)

The sealed file is whole before the open one goes, and readers then prefer it: a kill at any point loses nothing and
doubles nothing.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import TypedDict

from tokka import files
from tokka.request_log import segments
from tokka.request_log.framing import LogRecord, parse

# An offset behind every record: all of a sealed segment was read.
ALL = sys.maxsize
# A process that ended a moment ago may come back under the same number.
IDLE_SECONDS = 600.0
_FACTS = b"tokka"


class _Facts(TypedDict):
    """What the file's metadata hold: damaged lines by the offset behind them, the newest record's time."""

    torn: bool
    damaged: list[int]
    newest: float


def seal_all(folder: Path, now: float) -> int:
    """Seal every segment that is due, and return how many were; `now` in seconds since 1970."""
    sealed = 0
    for name in segments.names(folder):
        with contextlib.suppress(FileNotFoundError):
            idle = now - segments.open_path(folder, name).stat().st_mtime
            sealed += idle >= IDLE_SECONDS and seal(folder, name)
    return sealed


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
        facts = None if is_open else _facts(path)
        if facts is not None and facts["newest"] < moment:
            path.unlink()
            deleted += 1
    return deleted


def read_sealed(path: Path, since: float, offset: int) -> tuple[list[LogRecord], int, int] | None:
    """Records from `since` on, torn and damaged lines, all behind an offset of the segment; None when unreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = _facts(path)
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


def _write(path: Path, content: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = parse(content)
    rows = [record for _, record in lines.records]
    newest = max((float(row["time"]) for row in rows), default=0.0)
    facts = _Facts(torn=lines.torn, damaged=lines.damaged, newest=newest)
    columns = {
        "end": pa.array([end for end, _ in lines.records], pa.int64()),
        "time": pa.array([float(row["time"]) for row in rows], pa.float64()),
        "kind": pa.array([row["kind"] for row in rows], pa.string()),
        "prediction_id": pa.array([_unicode(row["prediction_id"]) for row in rows], pa.string()),
        # Escaped: a text that holds half a surrogate pair is no UTF-8, and Parquet takes nothing else.
        "record": pa.array([json.dumps(row, separators=(",", ":")) for row in rows], pa.string()),
    }
    output = io.BytesIO()
    table = pa.table(columns, metadata={_FACTS: json.dumps(facts).encode()})
    pq.write_table(table, output, compression="zstd", write_page_checksum=True)
    files.write_bytes(path, output.getvalue())
    path.chmod(0o600)


def _unicode(name: str) -> str:
    return name.encode(errors="replace").decode()


def _facts(path: Path) -> _Facts | None:
    """None when the file is missing or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts: _Facts = json.loads(pq.read_schema(path).metadata[_FACTS])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return facts
