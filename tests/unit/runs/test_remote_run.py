"""A run that is watched: its steps, what it came to, and a server that goes away in between."""

import json

import pytest

from tokka import progress
from tokka.errors import Refused, TokkaError
from tokka.params import load_params
from tokka.runs import ir, remote_run
from tokka.runs.execute import Request
from tokka.runs.kfp_server import NoAnswer
from tokka.runs.remote_run import StepState
from tokka.runs.submission import submit

GATE = "condition-1.gate"


@pytest.fixture
def start(fake, server, settings):
    def started(*looks):
        fake.script = looks
        params = load_params(settings.root / "params.yaml", ())
        return submit(Request(params=params, pipeline="specialise"), settings, server).run_id

    return started


def follow(server, run_id, pauses=None):
    seen = []
    return *remote_run.follow(server, run_id, seen.append, (pauses if pauses is not None else []).append), seen


def failed(step, error, exit_code=1):
    event = {"step": step, "event": "failed", "seconds": 1.0, "error": error, "hint": "mend it", "exit_code": exit_code}
    return f"some line\n{progress.MARK}{json.dumps(event)}\nTraceback …\n"


def test_events_are_what_has_changed():
    now = [StepState(name="a", seconds=3, status="done"), StepState(name="b", seconds=1, status="started")]
    told = [(event["step"], event["event"]) for event in remote_run.events({"a": "started"}, now)]
    assert told == [("a", "done"), ("b", "started")]
    assert [event["event"] for event in remote_run.events({}, now)] == ["started", "done", "started"]
    assert list(remote_run.events({"a": "done", "b": "started"}, now)) == []


def test_steps_are_followed_live(server, start):
    run_id = start(
        ("PENDING", {}),
        ("RUNNING", {"preflight": "RUNNING"}),
        ("RUNNING", {"preflight": "RUNNING"}),
        ("RUNNING", {"preflight": "SUCCEEDED", GATE: "RUNNING"}),
        ("SUCCEEDED", {"preflight": "SUCCEEDED", GATE: "SUCCEEDED"}),
    )
    final, error, seen = follow(server, run_id)
    told = [(event["step"], event["event"]) for event in seen if event["step"] != "kubeflow"]
    assert told == [("preflight", "started"), ("preflight", "done"), ("gate", "started"), ("gate", "done")]
    assert error is None
    assert [step["seconds"] for step in final["steps"]] == [10.0, 10.0]


def test_a_failed_step_says_what_it_said_in_its_log(fake, server, start):
    run_id = start(("FAILED", {"preflight": "FAILED"}))
    fake.write_log(run_id, "preflight", failed("preflight", "TOKKA_REMOTE: 403"))
    _, error, _ = follow(server, run_id)
    assert type(error) is TokkaError
    assert error.message == "preflight: TOKKA_REMOTE: 403"
    assert error.hint.startswith("mend it; its pages are at ")


def test_a_refusal_is_one(fake, server, start):
    run_id = start(("FAILED", {"preflight": "SUCCEEDED"}))
    fake.write_log(run_id, "preflight", failed("validate_data", "30 rows have no label", exit_code=3))
    assert isinstance(follow(server, run_id)[1], Refused)


@pytest.mark.parametrize(
    ("state", "steps", "words"),
    [
        ("FAILED", {"preflight": "FAILED"}, "preflight failed"),
        ("FAILED", {}, "its pods may not have started"),
        ("CANCELED", {"preflight": "FAILED"}, "was terminated"),
    ],
)
def test_without_a_log_the_states_are_all(server, start, state, steps, words):
    final, error, _ = follow(server, start((state, steps)))
    assert words in error.message
    assert "tokka logs --remote" in error.hint
    assert final["gate"] is None


def test_a_task_that_is_named_for_a_refusal_is_one_without_its_log(server, start):
    run = remote_run.find(server, start(("FAILED", {"preflight": "SUCCEEDED"})))
    steps = [StepState(name="refused_by_the_gate", seconds=1, status="failed")]
    error = remote_run.failure(run, steps, [], "http://ui")
    assert (type(error), error.message) == (Refused, "refused by the gate")


def test_a_server_that_goes_away_for_a_while_is_waited_for(fake, server, start):
    run_id = start(("RUNNING", {}), ("SUCCEEDED", {"preflight": "SUCCEEDED"}))
    # Four answers for each look: the connection asks three times again.
    fake.fail("GET /apis/v2beta1/runs/", 503, "rolling update", times=4)
    final, error, seen = follow(server, run_id)
    assert error is None
    assert any("does not answer; waiting" in event.get("message", "") for event in seen)
    assert final["steps"][0]["status"] == "done"


def test_a_server_that_stays_away_is_not_waited_for_without_end(server, start, monkeypatch):
    monkeypatch.setattr(remote_run, "PATIENCE_SECONDS", 2 * remote_run.POLL_SECONDS)
    run_id, pauses = start(("RUNNING", {})), []

    def gone(*_, **__):
        raise NoAnswer("could not ask: nobody answers")

    monkeypatch.setattr(server, "call", gone)
    with pytest.raises(NoAnswer) as stopped:
        follow(server, run_id, pauses)
    assert "goes on without being watched" in stopped.value.hint
    assert len(pauses) == 2


def test_what_a_server_refuses_is_not_waited_for(fake, server, start):
    run_id = start(("RUNNING", {}))
    fake.fail("GET /apis/v2beta1/runs/", 401, "token expired")
    with pytest.raises(TokkaError, match="does not know who asks"):
        follow(server, run_id)


def test_logs_are_those_of_the_newest_attempt(fake, server, start):
    fake.attempts = 2
    run_id = start(("RUNNING", {"preflight": "RUNNING", GATE: "RUNNING"}))
    fake.write_log(run_id, "preflight", "killed\n", attempt=0)
    fake.write_log(run_id, "preflight", "first line\n", attempt=1)
    run = remote_run.find(server, run_id)
    assert dict(remote_run.logs(server, run)) == {
        "preflight": "first line\n",
        "gate": "(nothing yet)\n",
    }
    assert list(dict(remote_run.logs(server, run, "gate"))) == ["gate"]
    fake.scripts[run_id] = [("FAILED", {GATE: "FAILED"})]
    ended = remote_run.find(server, run_id)
    assert dict(remote_run.logs(server, ended)) == {"gate": "(its pod is gone, and no log was archived)\n"}
    with pytest.raises(TokkaError, match="has no step 'bake'"):
        list(remote_run.logs(server, run, "bake"))


def test_steps_of_one_key_are_told_apart_by_where_they_are(server, start):
    run = remote_run.find(
        server, start(("FAILED", {"condition-1.refuse": "SUCCEEDED", "condition-2.refuse": "FAILED"}))
    )
    template = "system-container-impl"
    known = [
        ir.Step("data refused", "refuse", "root.condition-1.refuse", template),
        ir.Step("refused by the gate", "refuse", "root.condition-2.refuse", template),
    ]
    found = [(state.name, state.status) for state in remote_run.steps(run, known)]
    assert found == [("data refused", "done"), ("refused by the gate", "failed")]


def test_a_run_whose_version_was_deleted_is_still_followed(fake, server, start):
    run_id = start(("RUNNING", {"preflight": "RUNNING"}), ("SUCCEEDED", {"preflight": "SUCCEEDED"}))
    fake.versions.clear()
    final, error, _ = follow(server, run_id)
    assert (final["steps"], error) == ([], None)


def test_a_run_that_is_not_there_is_said_to_be(server, start):
    with pytest.raises(TokkaError, match="any run of Tokka's"):
        remote_run.find(server, "")
    start(("RUNNING", {}))
    with pytest.raises(TokkaError, match="a run named 'specialise-0'"):
        remote_run.find(server, "specialise-0")
    with pytest.raises(TokkaError, match="not there"):
        remote_run.find(server, "00000000-0000-0000-0000-000000000000")
