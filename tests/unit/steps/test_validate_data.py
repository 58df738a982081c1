"""validate_data as Kubeflow runs it: feedback by its address, and the very data that preflight saw."""

import pytest

from tests.unit.data.corpus import csv_of, params_for
from tokka import objects
from tokka.data.validation import validation
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import TokkaError
from tokka.settings import Settings
from tokka.steps import preflight, validate_data


def test_feedback_in_s3_is_read_and_counts_as_preflight_counted_it(bucket, tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text(csv_of(20))
    objects.write(tmp_path / "rows.csv", f"{bucket}/snapshots/rows.csv")
    where = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})
    params, snapshot, seen = params_for(tmp_path / "rows.csv"), f"{bucket}/snapshots/rows.csv", []

    def validate(_, __, out, feedback):
        seen.append(feedback.read_text())
        out.mkdir()
        return {"verdict": "pass", "rows": 20, "quarantined": 0}

    monkeypatch.setattr(validation, "validate_source", validate)
    source = preflight.rows_digest(params, where, snapshot)
    assert validate_data.judge(params, where, tmp_path / "out", snapshot, source)["verdict"] == "pass"
    assert seen == [csv_of(20)]


def test_data_that_changed_since_preflight_is_not_kept_under_its_digest(tmp_path):
    where = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})
    params = params_for(tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text(csv_of(20))
    source = preflight.rows_digest(params, where, "")
    (tmp_path / "rows.csv").write_text(csv_of(21))
    with pytest.raises(TokkaError, match="has changed since preflight"):
        validate_data.judge(params, where, tmp_path / "out", "", source)
    assert not (tmp_path / "out").exists()


def test_a_source_that_cannot_be_read_leaves_the_key_to_whoever_waits(tmp_path):
    where = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_JOB": "first"})
    claims = Claims(RecordDatabase(where.record_url))
    assert claims.take("key", "first") == ("mine", {})
    with pytest.raises(TokkaError, match=r"rows\.csv"):
        validate_data.judge(params_for(tmp_path / "rows.csv"), where, tmp_path / "out", "", "digest")
    assert claims.take("key", "second") == ("mine", {})
