"""The request log: what was asked, what was answered, what was right; append-only segments.

Kinds: `prediction` (a worker's answer), `request` (what the gateway saw: status, latency, weight), `feedback` (the
truth, later). They are joined by `prediction_id`, whatever segments they are in.

Each process writes segments of its own, one per UTC day and size, with one `write` per batch on O_APPEND: what was
written survives SIGKILL, where a buffered file would lose its buffer. Records reach the disk in groups (group_sync.py).
"""

import os
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from tokka.request_log import segments
from tokka.request_log.framing import LogRecord, frame, parse
from tokka.request_log.group_sync import GroupSync

# A pod's segment ends by one of both: it is copied whole, as often as it has grown.
POD_BYTES, POD_SECONDS = 8 << 20, 3600.0


class Writer:
    """Appends records to this process's segment of the day; `source`, who writes, is part of the segment's name."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder, self._source = folder, source
        self._day, self._descriptor, self._room = "", -1, 0
        self._sync: GroupSync | None = GroupSync()
        self._opened, self._most = 0.0, segments.SEGMENT_BYTES

    def append(self, records: Sequence[Mapping[str, object]]) -> None:
        """Write records: now they outlive the process, soon a power cut too. OSError when the disk is full."""
        if not records:
            return
        content = b"".join(frame(record) for record in records)
        descriptor = self._segment()
        written = os.write(descriptor, content)
        self._room -= written
        if self._sync is not None:
            self._sync.wrote(descriptor, len(records))
        if written < len(content):
            # A full disk cut the record: the next one brings a newline of its own, and the cut one is counted.
            raise OSError(f"the request log took {written} of {len(content)} bytes: is the disk full?")

    def close(self) -> None:
        """Sync and close the segment; a later `append` opens one again."""
        if self._descriptor >= 0:
            if self._sync is not None:
                self._sync.close()
            os.close(self._descriptor)
        self._descriptor, self._day = -1, ""

    def _segment(self) -> int:
        day = segments.day_of(time.time())
        if day != self._day or self._room <= 0 or self._is_old():
            self.close()
            self._descriptor = segments.open_segment(self._folder, self._name(), day)
            self._room = self._most - os.fstat(self._descriptor).st_size
            self._day, self._opened = day, time.monotonic()
        return self._descriptor

    def _is_old(self) -> bool:
        return False

    def _name(self) -> str:
        return self._source


class PodWriter(Writer):
    """Appends to segments that end by size and age, each under a name that no other ever has.

    What a pod writes is copied elsewhere under that name and then deleted here, so no later segment may have it. The
    disk is not waited for: it goes with the pod.
    """

    def __init__(self, folder: Path, source: str, seconds: float = POD_SECONDS) -> None:
        super().__init__(folder, source)
        self._sync, self._seconds, self._most = None, seconds, POD_BYTES

    def _is_old(self) -> bool:
        return time.monotonic() - self._opened >= self._seconds

    def _name(self) -> str:
        return f"{self._source}-{time.time_ns():x}"


class Scan(NamedTuple):
    """Records in order of time, how many lines were cut off or are no records, and files of an unknown version."""

    records: list[LogRecord]
    torn: int = 0
    damaged: int = 0
    unknown: tuple[str, ...] = ()


def read(folder: Path, since: float = 0.0) -> list[LogRecord]:
    """Every record from `since` (seconds since 1970) on, in order of time; bad lines are left out."""
    return scan(folder, since).records


def scan(folder: Path, since: float = 0.0) -> Scan:
    """As `read`, and count the bad lines: a torn one ends a segment without a newline."""
    return Tail(folder, since).poll(final=True)


class Tail:
    """Reads a growing log: each `poll` returns what came since the last one, also when it was sealed meanwhile."""

    def __init__(self, folder: Path, since: float = 0.0) -> None:
        self._folder, self._since = folder, since
        self._offsets: dict[str, int] = {}

    def poll(self, *, final: bool = False) -> Scan:
        """New records; a last line without its newline is left for the next poll, or counted torn when `final`."""
        parts = [self._read(name) for name in segments.names(self._folder, segments.day_of(self._since))]
        records = [record for part in parts for record in part.records if record["time"] >= self._since]
        torn = sum(part.torn for part in parts) if final else 0
        damaged, unknown = sum(part.damaged for part in parts), tuple(segments.unknown(self._folder))
        return Scan(sorted(records, key=itemgetter("time")), torn, damaged, unknown)

    def _read(self, name: str) -> Scan:
        """What is new in a segment: of its sealed form if there is one, since the open one is about to go then."""
        sealed = segments.sealed_path(self._folder, name)
        if not sealed.exists():
            try:
                return self._read_open(name)
            except FileNotFoundError:
                # Sealed, or deleted after its time, since the folder was listed.
                if not sealed.exists():
                    return Scan([])
        return self._read_sealed(name, sealed)

    def _read_open(self, name: str) -> Scan:
        offset = self._offsets.get(name, 0)
        with segments.open_path(self._folder, name).open("rb") as file:
            file.seek(offset)
            found = parse(file.read(), offset)
        self._offsets[name] = found.end
        return Scan([record for _, record in found.records], int(found.torn), len(found.damaged))

    def _read_sealed(self, name: str, path: Path) -> Scan:
        from tokka.request_log import parquet

        offset = self._offsets.get(name, 0)
        if offset == parquet.ALL:
            return Scan([])
        found = parquet.read_sealed(path, self._since, offset)
        if found is None:
            # The whole segment counts as one damage, unless its open form is still there.
            try:
                return self._read_open(name)
            except FileNotFoundError:
                found = [], 0, 1
        self._offsets[name] = parquet.ALL
        return Scan(*found)
