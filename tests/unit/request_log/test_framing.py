"""A line of the log: a record with its checksum, and none without it."""

import json

from tests.unit.request_log.test_parquet import prediction
from tokka.request_log.framing import frame, unframe


def test_a_record_without_its_checksum_is_none():
    assert unframe(json.dumps(prediction("a")).encode()) is None
    assert unframe(frame(prediction("a")).strip(b"\n")) == prediction("a")
