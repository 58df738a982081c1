"""What a look at drift needs of the request log: the newest windows and the labelled rows, read segment by segment.

Memory is that of the windows and of the feedback. Earlier predictions are counted by their segments' metadata, so that
a window still begins at a multiple of its size from the start of the log, and only segments with newest rows are read.
A retried request, which is logged twice, counts once among the rows read and twice among those that are only counted.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tokka.monitoring.drift.windows import Cut, Labelled, cut, is_own_replay, is_truth, labelled
from tokka.request_log import segments, stream
from tokka.request_log.framing import LogRecord
from tokka.request_log.stream import Segment

PREDICTION, FEEDBACK = "prediction", "feedback"


@dataclass(frozen=True)
class Traffic:
    """The newest windows with the rows behind them, what can be learned from, and sentences on what was not read."""

    cuts: Cut
    learnable: list[Labelled]
    unread: list[str]


def look(folder: Path, version: str, known: frozenset[str], window_rows: int, windows: int) -> Traffic:
    """Look at the log of one version (empty: of all); `known` as for `windows.cut`."""
    parts = stream.newest_first(folder)
    total, newest = _newest(parts, version, known, (windows + 1) * window_rows)
    full = total // window_rows
    shown = min(full, windows)
    rows = newest[len(newest) - (total - (full - shown) * window_rows) :]
    truths = _truths(parts)
    own = [truth for row in rows if (truth := truths.get(row["prediction_id"]))]
    cuts = cut([*rows, *own], window_rows, version, known, before=full - shown)
    found = [row for part in parts for row in part.records(PREDICTION, truths)] if truths else []
    return Traffic(cuts, labelled([*found, *truths.values()], known), _unread(folder, parts))


def _newest(
    parts: Sequence[Segment], version: str, known: frozenset[str], most: int
) -> tuple[int, list[LogRecord]]:  # fmt: skip
    """How many answers there are, and the newest of them in order of time."""
    total, serial, kept = 0, count(), list[tuple[float, int, LogRecord]]()
    for part in parts:
        if part.predictions is not None and len(kept) == most and part.newest < kept[0][0]:
            total += part.predictions.get(version, 0) if version else sum(part.predictions.values())
            continue
        for row in _answers(part, version, known):
            total += 1
            entry = (float(row["time"]), next(serial), row)
            if len(kept) < most:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
    return total, [row for _, _, row in sorted(kept, key=lambda entry: entry[:2])]


def _answers(part: Segment, version: str, known: frozenset[str]) -> Iterator[LogRecord]:
    for row in part.records(PREDICTION):
        ours = not row.get("shadow") and (not version or str(row.get("version")) == version)
        if ours and not is_own_replay(row, known):
            yield row


def _truths(parts: Sequence[Segment]) -> dict[str, LogRecord]:
    """Prediction to the last feedback on it."""
    found: dict[str, LogRecord] = {}
    for record in (record for part in parts if part.feedback for record in part.records(FEEDBACK)):
        name = record["prediction_id"]
        if is_truth(record) and (name not in found or record["time"] >= found[name]["time"]):
            found[name] = record
    return found


def _unread(folder: Path, parts: Sequence[Segment]) -> list[str]:
    lost = sum(part.lost for part in parts)
    said = [f"{lost} lines of the request log could not be read"] if lost else []
    return said + [f"not read, of an unknown version of the request log: {name}" for name in segments.unknown(folder)]
