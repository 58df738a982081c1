"""The request log: what was asked, what was answered, what was right; append-only JSON lines.

    writer = Writer(settings.home / "requests", "worker")
    writer.append([{"kind": "prediction", "prediction_id": "…", …}])
    records = read(settings.home / "requests", since=time.time() - 3600)

Kinds: `prediction` (a worker's answer), `request` (what the gateway saw: status, latency, share), `feedback` (the
truth, later). They are joined by `prediction_id`.

Each process writes segments of its own, one per UTC day, with one `write` per batch on O_APPEND: what was written
survives SIGKILL, where a buffered file would lose its buffer.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("prediction", "request", "feedback")


class Writer:
    """Appends records to this process's segment of the day.

    Args:
        folder: made when it is missing.
        source: who writes; part of the segment's name.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._day = ""
        self._descriptor = -1

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write records; when this returns they outlive the process."""
        if not records:
            return
        content = b"".join(_encode(record) for record in records)
        descriptor = self._segment()
        written = os.write(descriptor, content)
        if written < len(content):
            # A full disk cut the line: end it, so that the next record starts on a line of its own.
            os.write(descriptor, b"\n")
            raise OSError(f"the request log took {written} of {len(content)} bytes: is the disk full?")

    def close(self) -> None:
        """Close the segment; a later `append` opens one again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._day = -1, ""

    def _segment(self) -> int:
        day = _day(time.time())
        if day != self._day:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{day}-{self._source}-{os.getpid()}.jsonl"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            _end_torn_line(self._descriptor, path)
            self._day = day
        return self._descriptor


@dataclass(frozen=True)
class Scan:
    """Records in order of time, and how many lines were cut off or are no records."""

    records: list[dict[str, Any]] = field(default_factory=list)
    torn: int = 0
    damaged: int = 0


def read(folder: Path, since: float = 0.0) -> list[dict[str, Any]]:
    """Every record from `since` (seconds since 1970) on, in order of time; bad lines are left out."""
    return scan(folder, since).records


def scan(folder: Path, since: float = 0.0) -> Scan:
    """As `read`, and count the bad lines: a torn one ends a segment without a newline."""
    return Tail(folder, since).poll(final=True)


class Tail:
    """Reads a growing log: each `poll` returns what came since the last one.

    Args:
        folder: the log; it may not exist yet.
        since: older records are left out.
    """

    def __init__(self, folder: Path, since: float = 0.0) -> None:
        self._folder = folder
        self._since = since
        self._offsets: dict[str, int] = {}

    def poll(self, *, final: bool = False) -> Scan:
        """New records; a last line without its newline is left for the next poll, or counted torn when `final`."""
        records: list[dict[str, Any]] = []
        torn = damaged = 0
        first = _day(self._since)
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            if path.name[: len(first)] >= first:
                lines, rest = self._new_lines(path)
                found = [_decode(line) for line in lines]
                records += [record for record in found if record is not None and record["time"] >= self._since]
                damaged += found.count(None)
                torn += final and bool(rest)
        return Scan(sorted(records, key=_time), torn, damaged)

    def _new_lines(self, path: Path) -> tuple[list[bytes], bytes]:
        offset = self._offsets.get(path.name, 0)
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
        whole, newline, rest = content.rpartition(b"\n")
        self._offsets[path.name] = offset + len(whole) + len(newline)
        return [line for line in whole.split(b"\n") if line], rest


def join(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per prediction, with the gateway's view under `request` and the last feedback under `feedback`.

    Gateway records of requests that no worker answered come as rows of their own, without a `label`.
    """
    rows: dict[str, dict[str, Any]] = {}
    others: list[Mapping[str, Any]] = []
    for record in records:
        if record["kind"] == "prediction":
            rows[record["prediction_id"]] = {**record, "request": None, "feedback": None}
        else:
            others.append(record)
    for record in others:
        name = record["prediction_id"]
        if record["kind"] == "feedback" and name in rows:
            rows[name]["feedback"] = record
        elif record["kind"] == "request" and name in rows:
            rows[name]["request"] = record
        elif record["kind"] == "request" and record.get("route") == "predict" and record.get("status", 0) >= 500:
            rows[name] = {**record, "request": record, "feedback": None}
    return sorted(rows.values(), key=_time)


def _encode(record: Mapping[str, Any]) -> bytes:
    return (
        json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace") + b"\n"
    )


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    known = isinstance(record, dict) and record.get("kind") in KINDS and isinstance(record.get("prediction_id"), str)
    return record if known and isinstance(record.get("time"), int | float) else None


def _end_torn_line(descriptor: int, path: Path) -> None:
    """A process with this pid died in mid-line today: what follows must not be glued to its last record."""
    size = os.fstat(descriptor).st_size
    if size:
        with path.open("rb") as file:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                os.write(descriptor, b"\n")


def _day(moment: float) -> str:
    return time.strftime("%Y%m%d", time.gmtime(max(moment, 0.0)))


def _time(record: Mapping[str, Any]) -> float:
    return float(record["time"])
