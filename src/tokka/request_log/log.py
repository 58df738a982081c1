"""The request log: what was asked, what was answered, what was right; append-only segments.

    writer = Writer(settings.home / "requests", "worker")
    writer.append([{"kind": "prediction", "prediction_id": "…", …}])
    records = read(settings.home / "requests", since=time.time() - 3600)

Kinds: `prediction` (a worker's answer), `request` (what the gateway saw: status, latency, share), `feedback` (the
truth, later). They are joined by `prediction_id`.

Each process writes segments of its own, one per UTC day and size, with one `write` per batch on O_APPEND: what was
written survives SIGKILL, where a buffered file would lose its buffer. Records carry a checksum (see framing.py) and
reach the disk in groups (group_sync.py); segments that nobody writes any more are sealed (parquet.py). Feedback may
come at any time later: it is joined by id, whatever segment the prediction is in.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokka.request_log import segments
from tokka.request_log.framing import KINDS, frame, unframe
from tokka.request_log.group_sync import GroupSync

__all__ = ["KINDS", "Scan", "Tail", "Writer", "join", "read", "scan"]


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
        self._room = 0
        self._sync = GroupSync()

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write records; when this returns they outlive the process, and soon after a power cut too."""
        if not records:
            return
        content = b"".join(frame(record) for record in records)
        descriptor = self._segment()
        written = os.write(descriptor, content)
        self._room -= written
        self._sync.wrote(descriptor, len(records))
        if written < len(content):
            # A full disk cut the record: the next one brings a newline of its own, and the cut one is counted.
            raise OSError(f"the request log took {written} of {len(content)} bytes: is the disk full?")

    def close(self) -> None:
        """Sync and close the segment; a later `append` opens one again."""
        if self._descriptor >= 0:
            self._sync.close()
            os.close(self._descriptor)
        self._descriptor, self._day = -1, ""

    def _segment(self) -> int:
        day = segments.day_of(time.time())
        if day != self._day or self._room <= 0:
            self.close()
            self._descriptor = segments.open_segment(self._folder, self._source, day)
            self._room = segments.SEGMENT_BYTES - os.fstat(self._descriptor).st_size
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
    """Reads a growing log: each `poll` returns what came since the last one, also when it was sealed meanwhile.

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
        for name in segments.names(self._folder, segments.day_of(self._since)):
            part = self._read(name)
            records += [record for record in part.records if record["time"] >= self._since]
            damaged += part.damaged
            torn += part.torn if final else 0
        return Scan(sorted(records, key=_time), torn, damaged)

    def _read(self, name: str) -> Scan:
        """What is new in a segment: of its sealed form if there is one, since the open one is about to go then."""
        sealed = self._folder / f"{name}{segments.SEALED}"
        if not sealed.exists():
            try:
                return self._read_open(name)
            except FileNotFoundError:
                # Sealed, or deleted after its time, since the folder was listed.
                if not sealed.exists():
                    return Scan()
        return self._read_sealed(name, sealed)

    def _read_open(self, name: str) -> Scan:
        path, checked = segments.open_path(self._folder, name)
        offset = self._offsets.get(name, 0)
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
        whole, newline, rest = content.rpartition(b"\n")
        self._offsets[name] = offset + len(whole) + len(newline)
        found = [unframe(line, checked=checked) for line in whole.split(b"\n") if line]
        return Scan([record for record in found if record is not None], int(bool(rest)), found.count(None))

    def _read_sealed(self, name: str, path: Path) -> Scan:
        from tokka.request_log import parquet

        offset = self._offsets.get(name, 0)
        if offset == parquet.ALL:
            return Scan()
        self._offsets[name] = parquet.ALL
        found = parquet.read_sealed(path, self._since, offset)
        if found is None:
            # The whole segment counts as one damage, unless its open form is still there.
            self._offsets[name] = offset
            try:
                return self._read_open(name)
            except FileNotFoundError:
                self._offsets[name] = parquet.ALL
                return Scan(damaged=1)
        return Scan(*found)


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


def _time(record: Mapping[str, Any]) -> float:
    return float(record["time"])
