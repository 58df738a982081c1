"""The request log record by record, segment by segment: memory is that of a batch, however long the log is.

A sealed segment's metadata say what is in it, so that whoever needs the newest rows reads the newest segments.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokka.request_log import parquet, segments
from tokka.request_log.framing import LogRecord, unframe

# Records that are decoded at a time; of a few hundred bytes each.
BATCH = 1024


@dataclass
class Segment:
    """One segment.

    newest: time of its newest record (seconds since 1970), infinite while it is not sealed. predictions: how many
    answers to users it holds, by version; None when that is not known without reading it. feedback: whether it may hold
    any. lost: lines that are none, or that could not be read; of an open segment once it was read.
    """

    folder: Path
    name: str
    newest: float = math.inf
    predictions: dict[str, int] | None = None
    feedback: bool = True
    lost: int = 0
    _is_sealed: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, folder: Path, name: str) -> "Segment":
        """What is known of a segment from its metadata."""
        path = segments.sealed_path(folder, name)
        facts = parquet.facts_of(path) if path.exists() else None
        if facts is None:
            # Sealed and unreadable: its whole is one damage, unless its open form is still there.
            return cls(folder, name, lost=int(path.exists() and not segments.open_path(folder, name).exists()))
        lost = int(facts["torn"]) + len(facts["damaged"])
        counts = facts.get("predictions")
        return cls(folder, name, facts["newest"], counts, facts.get("feedback", True), lost, _is_sealed=True)

    def records(self, kind: str, ids: Collection[str] | None = None) -> Iterator[LogRecord]:
        """Its records of a kind, in the order in which they were written; of some predictions, if named."""
        if not self._is_sealed:
            try:
                yield from self._open_records(kind, ids)
            except FileNotFoundError:
                # Sealed, or deleted after its time, since the folder was listed.
                self._is_sealed = segments.sealed_path(self.folder, self.name).exists()
        if self._is_sealed:
            try:
                yield from parquet.stream(segments.sealed_path(self.folder, self.name), kind, ids, BATCH)
            except (OSError, ValueError):
                # Damaged since it was sealed, or deleted after its time: the rest of it is one damage.
                self.lost, self._is_sealed = self.lost + 1, False

    def _open_records(self, kind: str, ids: Collection[str] | None) -> Iterator[LogRecord]:
        lost = 0
        with segments.open_path(self.folder, self.name).open("rb") as file:
            for line in file:
                record = unframe(line.rstrip(b"\n")) if line.strip() else None
                lost += record is None and bool(line.strip())
                if record and record["kind"] == kind and (ids is None or record["prediction_id"] in ids):
                    yield record
        self.lost = lost


def newest_first(folder: Path) -> list[Segment]:
    """Every segment of a folder."""
    found = [Segment.of(folder, name) for name in segments.names(folder)]
    return sorted(found, key=lambda one: (one.newest, one.name), reverse=True)
