"""Segments of the request log that nobody writes any more, as Parquet; and the oldest of them, deleted.

    sealed = seal_all(folder, now); deleted = delete_before(folder, moment)

The sealed file is whole before the open one goes, and readers then prefer it: a kill at any point loses nothing and
doubles nothing.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tokka import files
from tokka.request_log import segments
from tokka.request_log.framing import unframe

# An offset behind every record: all of a sealed segment was read.
ALL = sys.maxsize
# A process that ended a moment ago may come back under the same number.
IDLE_SECONDS = 600.0
DAY_SECONDS = 86_400.0
_FACTS = b"tokka"


def seal_all(folder: Path, now: float) -> int:
    """Seal every segment that is due, and return how many were; `now` in seconds since 1970."""
    sealed = 0
    for name in segments.names(folder):
        path, checked = segments.open_path(folder, name)
        # Who writes a segment of an older version holds no lock: leave it for a whole day more.
        idle = IDLE_SECONDS if checked else 2 * DAY_SECONDS
        with contextlib.suppress(FileNotFoundError):
            sealed += now - path.stat().st_mtime >= idle and seal(folder, name)
    return sealed


def seal(folder: Path, name: str) -> bool:
    """Seal one segment; False when someone writes it, or it is gone."""
    path, checked = segments.open_path(folder, name)
    descriptor = segments.claim_all(path)
    if descriptor is None:
        return False
    try:
        # Not renamed into a sealed file from before a kill: it is made again, from the same bytes.
        content = path.read_bytes()
        if content.strip(b"\n"):
            _write(folder / f"{name}{segments.SEALED}", content, checked=checked)
        path.unlink()
        files.sync_folder(folder)
    finally:
        os.close(descriptor)
    return True


def delete_before(folder: Path, moment: float) -> int:
    """Delete sealed segments whose newest record is older than a moment; returns how many there were."""
    deleted = 0
    for name in segments.names(folder):
        path, (unsealed, _) = folder / f"{name}{segments.SEALED}", segments.open_path(folder, name)
        facts = _facts(path) if path.exists() and not unsealed.exists() else None
        if facts is not None and facts["newest"] < moment:
            path.unlink()
            deleted += 1
    return deleted


def read_sealed(path: Path, since: float, offset: int) -> tuple[list[dict[str, Any]], int, int] | None:
    """Records from `since` on, torn and damaged lines, all behind an offset of the segment; None when unreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = _facts(path)
    if facts is None:
        return None
    torn = int(facts["torn"])
    damaged = sum(end > offset for end in facts["damaged"])
    if facts["newest"] < since:
        return [], torn, damaged
    try:
        wanted = [("time", ">=", since), ("end", ">", offset)]
        rows = pq.read_table(path, columns=["record"], filters=wanted).column("record").to_pylist()
    except (OSError, pa.ArrowException, ValueError):
        return None
    return [json.loads(row) for row in rows], torn, damaged


def _write(path: Path, content: bytes, *, checked: bool) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, damaged, torn = _parse(content, checked=checked)
    times = [float(record["time"]) for _, record in rows]
    facts = {"torn": torn, "damaged": damaged, "newest": max(times, default=0.0)}
    table = pa.table(
        {
            "end": pa.array([end for end, _ in rows], pa.int64()),
            "time": pa.array(times, pa.float64()),
            "kind": pa.array([record["kind"] for _, record in rows], pa.string()),
            "prediction_id": pa.array([_unicode(record["prediction_id"]) for _, record in rows], pa.string()),
            "record": pa.array([_text(record) for _, record in rows], pa.string()),
        },
        metadata={_FACTS: json.dumps(facts).encode()},
    )
    output = io.BytesIO()
    pq.write_table(table, output, compression="zstd", write_page_checksum=True)
    files.write_bytes(path, output.getvalue())
    path.chmod(0o600)


def _parse(content: bytes, *, checked: bool) -> tuple[list[tuple[int, dict[str, Any]]], list[int], bool]:
    """Records and damaged lines with the offsets behind them, and whether the last line was cut off."""
    rows: list[tuple[int, dict[str, Any]]] = []
    damaged: list[int] = []
    end = 0
    *lines, rest = content.split(b"\n")
    for line in lines:
        end += len(line) + 1
        record = unframe(line, checked=checked) if line else None
        if record is not None:
            rows.append((end, record))
        elif line:
            damaged.append(end)
    return rows, damaged, bool(rest)


def _text(record: dict[str, Any]) -> str:
    # Escaped: a text that holds half a surrogate pair is no UTF-8, and Parquet takes nothing else.
    return json.dumps(record, separators=(",", ":"))


def _unicode(name: str) -> str:
    return name.encode(errors="replace").decode()


def _facts(path: Path) -> dict[str, Any] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return dict(json.loads(pq.read_schema(path).metadata[_FACTS]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
