"""tokka consume keeps its results where a gateway looks for them, or says that it would not; tokka notify."""

import json

import pytest

from tests.fixtures.receivers import EventServer
from tokka.cli.jobs import require_reader
from tokka.cli.main import call
from tokka.errors import UsageError
from tokka.jobs.process import secret_of
from tokka.notifications import Event, emit
from tokka.settings import Settings


def make_settings(home, **environment):
    return Settings.from_environment({"TOKKA_HOME": str(home), **environment})


def test_a_consumer_whose_results_nobody_would_find_is_refused(tmp_path):
    with pytest.raises(UsageError) as refused:
        require_reader(make_settings(tmp_path / "another"))
    assert str(tmp_path / "another") in refused.value.message
    assert "TOKKA_JOBS_URL" in refused.value.hint


def test_a_consumer_in_the_stacks_home_or_with_its_database_is_not(tmp_path):
    secret_of(tmp_path / "jobs.secret")
    require_reader(make_settings(tmp_path))
    shared = {"TOKKA_JOBS_URL": f"sqlite:///{tmp_path}/jobs.db"}
    require_reader(make_settings(tmp_path / "another", **shared))


def test_jobs_lie_beside_a_shared_record_and_else_at_home(tmp_path):
    record = "postgresql://tokka@db/tokka"
    assert make_settings(tmp_path).jobs_url == f"sqlite:///{tmp_path}/jobs.db"
    assert make_settings(tmp_path, TOKKA_RECORD_URL=record).jobs_url == record
    assert make_settings(tmp_path, TOKKA_RECORD_URL="sqlite:////srv/record.db").jobs_url.endswith("/jobs.db")
    settings = make_settings(tmp_path, TOKKA_RECORD_URL=record, TOKKA_JOBS_URL="sqlite:////srv/jobs.db")
    assert Settings.from_environment(settings.environment()).jobs_url == "sqlite:////srv/jobs.db"


@pytest.mark.parametrize(
    ("url", "words"),
    [("nonsense", "cannot be used"), ("sqlite://", "needs a file"), ("mysql://u:secret@h/d", "cannot be used")],
)
def test_a_database_that_is_none_is_refused_without_its_password(tmp_path, monkeypatch, capsys, url, words):
    monkeypatch.chdir(tmp_path)
    for name, value in {"TOKKA_BROKER": "amqp://127.0.0.1:9/", "TOKKA_JOBS_URL": url, "TOKKA_HOME": "home"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "params.yaml").write_text("{}")
    assert call(["consume"]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "secret" not in told
    assert "Traceback" not in told


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A project whose events go to an HTTP server, with one event in its outbox."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("notifications: {receivers: [{name: bus, protocol: cloudevents}]}\n")
    with EventServer() as bus:
        address = f"bus={bus.url('verysecret')}"
        for name, value in {"ROOT": str(tmp_path), "HOME": str(tmp_path), "NOTIFY_URLS": address}.items():
            monkeypatch.setenv(f"TOKKA_{name}", value)
        event = Event("promoted", "helpdesk", "r/1", "Version 1 is the champion.", version="1")
        emit(event, f"sqlite:///{tmp_path}/record.db")
        yield bus


def test_notify_sends_what_is_due_once_and_lists_it(told, capsys):
    for sent in (1, 0):
        assert call(["notify", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"sent": sent, "failed": 0, "given_up": 0}
    assert call(["notify", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["notifications"]
    assert (row["kind"], row["receiver"], row["state"]) == ("promoted", "bus", "sent")
    assert len(told.requests) == 1


def test_a_test_is_sent_and_a_receiver_that_is_away_is_named_without_its_address(told, capsys):
    assert call(["notify", "--test"]) == 0
    assert json.loads(told.requests[0][1])["type"] == "tokka.test"
    told.stop()
    assert call(["notify", "--test"]) == 1
    said = capsys.readouterr()
    assert "1 of 1 receivers did not take the test: bus" in said.err
    assert "verysecret" not in said.out + said.err


def test_who_is_told_of_nothing_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert call(["notify"]) == 2
    assert "notifications.receivers names nobody" in capsys.readouterr().err
