"""How one record of the request log lies on disk: a line of its own, with a checksum behind it.

content = frame(record)             # b'\\n{"kind":…}\\t1a2b3c4d\\n'
record = unframe(line)              # None when it is damaged

Each record brings both of its newlines: whatever happens to one byte happens to one record.
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

KINDS = ("prediction", "request", "feedback")
# Seconds since 1970 in the year 9999: what is later is no time, and NaN neither.
_END_OF_TIME = 253_402_300_800
_CHECKSUM = re.compile(rb"[0-9a-f]{8}")


def frame(record: Mapping[str, Any]) -> bytes:
    """A record as bytes; NaN and infinity raise ValueError."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
    return b"\n%b\t%08x\n" % (text, zlib.crc32(text))


def unframe(line: bytes, *, checked: bool = True) -> dict[str, Any] | None:
    """A line (without its newlines) as a record; None when it is none, or not what was written.

    Args:
        checked: whether the segment has checksums; older ones have none.
    """
    text = line
    if checked:
        text, _, checksum = line.rpartition(b"\t")
        if not _CHECKSUM.fullmatch(checksum) or int(checksum, 16) != zlib.crc32(text):
            return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(value: Any) -> bool:
    known = isinstance(value, dict) and value.get("kind") in KINDS and isinstance(value.get("prediction_id"), str)
    moment = value.get("time") if known else None
    return isinstance(moment, int | float) and 0 <= moment < _END_OF_TIME
