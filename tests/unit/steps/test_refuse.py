import json

import pytest

from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.runs import summary
from tokka.settings import Settings
from tokka.steps import refuse


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "home").mkdir()
    return Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})


def test_a_refusal_prints_its_reasons_and_is_no_failure_of_a_step(tmp_path, monkeypatch, capsys, settings):
    monkeypatch.setenv("TOKKA_EVENTS", str(tmp_path / "events"))
    assert refuse.run("gate", "too slow\ntoo large", settings) == 3
    assert capsys.readouterr().err == "gate: too slow\ntoo large\n"
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert summary.was_refused(events)
    assert summary.failure(events) is None
    assert summary.summarise(events)["steps"] == []


def test_refused_data_is_what_its_user_reads(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("TOKKA_EVENTS", str(tmp_path / "events"))
    refuse.run("validate_data", "the data fails\nread docs.html", settings)
    error = summary.failure([json.loads(line) for line in (tmp_path / "events").read_text().splitlines()])
    assert (error.exit_code, error.message, error.hint) == (3, "validate_data: the data fails", "read docs.html")


def test_what_the_run_held_is_free_and_its_attempt_counts_as_refused(settings):
    record = RecordDatabase(settings.record_url)
    Attempts(record).begin("desk", "drift", "trigger", "one")
    Claims(record).take("key", "one")
    told = {"params": {}, "source": "abc", "code": "def", "snapshot": ""}
    refuse.run("validate_data", "the data fails\n300 rows without text", settings, "one", told)
    assert Claims(record).take("key", "two") == ("mine", {})
    assert [one.outcome for one in Attempts(record).all("desk")] == ["refused"]
    known = Claims(record).result(refuse.data_key(told))
    assert known == {"data": {"verdict": "refuse", "reasons": ["the data fails", "300 rows without text"]}}
    assert Claims(record).result(refuse.data_key({**told, "source": "other rows"})) is None


def test_a_record_that_is_away_does_not_hide_a_refusal(settings, capsys, monkeypatch):
    monkeypatch.setattr("tokka.database.PATIENCE_S", 0.0)
    away = settings.model_copy(update={"record_url": "postgresql://tokka@127.0.0.1:1/tokka"})
    assert refuse.run("gate", "too slow", away, "one") == 3
    assert "gate: too slow" in capsys.readouterr().err
