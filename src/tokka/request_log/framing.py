"""How a record of the request log lies on disk: a line of JSON with a checksum, between two newlines of its own.

Since no newline is shared, a changed byte or a cut costs one record and no more.
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple, Required, TypedDict

KINDS = ("prediction", "request", "feedback")
# Seconds since 1970 in the year 9999: what is later is no time, and NaN neither.
_END_OF_TIME = 253_402_300_800
_CHECKSUM = re.compile(rb"[0-9a-f]{8}")


class LogRecord(TypedDict, total=False):
    """A record; kind, prediction_id and time (seconds since 1970) are in each, the others as their writer knows them.

    `prediction` is written by a worker, `request` by the gateway, `feedback` by whoever knows the truth.
    """

    kind: Required[str]
    prediction_id: Required[str]
    time: Required[float]
    version: str
    digest: str
    share: float
    replayed: bool
    latency_ms: float
    # Of a prediction.
    assigned: bool
    canary: bool
    shadow: bool
    label: str | None
    score: float | None
    value: float | None
    text: str
    text_pair: str | None
    length: int
    unknown: float
    runs: int
    # Of a request.
    route: str
    protocol: str
    status: int
    retries: int
    stand_in: bool
    key: str
    named: bool
    shed: bool
    aborted: bool
    # Of feedback.
    source: str
    # Of a request and of feedback.
    client: str
    trusted: bool


class Lines(NamedTuple):
    """A segment's records and damaged lines by the offset behind them; whether it was cut off; its `end`."""

    records: list[tuple[int, LogRecord]]
    damaged: list[int]
    torn: bool
    end: int


def frame(record: Mapping[str, object]) -> bytes:
    """A record as bytes; NaN and infinity raise ValueError."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
    return b"\n%b\t%08x\n" % (text, zlib.crc32(text))


def unframe(line: bytes) -> LogRecord | None:
    """A line (without its newlines) as a record; None when it is none, or not what was written."""
    text, _, checksum = line.rpartition(b"\t")
    if not _CHECKSUM.fullmatch(checksum) or int(checksum, 16) != zlib.crc32(text):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def parse(content: bytes, start: int = 0) -> Lines:
    """The records in a part of a segment that begins at offset `start`."""
    records, damaged, end = [], [], start
    *lines, rest = content.split(b"\n")
    for line in lines:
        end += len(line) + 1
        if record := unframe(line):
            records.append((end, record))
        elif line:
            damaged.append(end)
    return Lines(records, damaged, bool(rest), end)


def _is_record(value: object) -> bool:
    if not isinstance(value, dict) or value.get("kind") not in KINDS or not isinstance(value.get("prediction_id"), str):
        return False
    moment = value.get("time")
    return isinstance(moment, int | float) and 0 <= moment < _END_OF_TIME
