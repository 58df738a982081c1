"""The archive of the request log: nothing is deleted that a rollout or a retraining needs."""

import time

from tests.unit.request_log.test_parquet import DAY, names, prediction
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.params import parse_params
from tokka.request_log.log import Writer
from tokka.settings import Settings
from tokka.stack.archive_log import tidy


def test_what_is_too_old_is_deleted_unless_it_is_needed(tmp_path):
    where = Settings.from_environment({"TOKKA_HOME": str(tmp_path), "TOKKA_ROOT": str(tmp_path)})
    params = parse_params({"monitoring": {"retention_days": 30.0}, "registry": {"model": "helpdesk"}})
    now = time.time() + DAY
    for source, age in (("old", 40), ("young", 20)):
        writer = Writer(where.home / "requests", source)
        writer.append([prediction(source, now - age * DAY)])
        writer.close()
    Attempts(Record(where.record_url)).begin("helpdesk", "drift", "key")
    assert tidy(params, where, now) == (2, 0)
    Attempts(Record(where.record_url)).finish("helpdesk", "promoted")
    record = Record(where.record_url)
    state = record.compare_and_set(record.read("helpdesk"), champion=Revision(version="1", digest="a"), phase="watch")
    assert tidy(params, where, now) == (0, 0)
    record.compare_and_set(state, phase="idle")
    assert tidy(params, where, now) == (0, 1)
    assert names(where.home / "requests") == ["young"]
