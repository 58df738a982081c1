"""tokka submit, schedule, status --remote and logs --remote, as a person and as a script meet them."""

import json

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures import small_project
from tests.fixtures.ports import free_port
from tokka import progress
from tokka.cli.main import call
from tokka.runs import remote_run
from tokka.steps.gate import ended


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    made = small_project.make(folder / "root")
    small_project.frozen(made, folder / "compiled")
    return made


@pytest.fixture
def fake(root, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_run, "POLL_SECONDS", 0.0)
    with FakeKubeflow() as found:
        for name, value in {"ROOT": root, "HOME": tmp_path, "KFP_HOST": found.host}.items():
            monkeypatch.setenv(f"TOKKA_{name}", str(value))
        yield found


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def event(step, kind, **more):
    return f"{progress.MARK}{json.dumps({'step': step, 'event': kind, **more})}\n"


def test_a_script_gets_one_object(fake, capsys):
    assert call(["submit", "--pipeline", "specialise", "--json"]) == 0
    first = last_line(capsys)
    assert first["created"]
    assert call(["submit", "--pipeline", "specialise", "--json"]) == 0
    again = last_line(capsys)
    assert (again["run_id"], again["created"]) == (first["run_id"], False)
    assert call(["status", "--remote", "--json"]) == 0
    assert [run["run_id"] for run in last_line(capsys)["runs"]] == [first["run_id"]]
    assert call(["status", "--remote", first["name"], "--json"]) == 0
    assert last_line(capsys)["state"] == "running"


def test_a_turn_of_a_timer_finds_the_look_that_is_under_way(fake, capsys):
    turn = ["submit", "--pipeline", "retrain", "--cause", "drift", "--json"]
    assert call(turn) == 0
    first = last_line(capsys)
    assert call(turn) == 0
    assert last_line(capsys) == {**first, "created": False}
    fake.scripts[first["run_id"]] = [("SUCCEEDED", {})]
    assert call(turn) == 0
    assert last_line(capsys)["created"]
    assert {run.runtime_config.parameters["cause"] for run in fake.runs.values()} == {"drift"}


def test_a_person_sees_the_end_of_tokka_run(fake, capsys):
    fake.script = [("RUNNING", {"preflight": "RUNNING"}), ("SUCCEEDED", {"preflight": "SUCCEEDED"})]
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    fake.write_log(run_id, "preflight", event("preflight", "result", facts={"key": "abc"}))
    assert call(["submit", "--pipeline", "specialise", "--wait"]) == 0
    told = capsys.readouterr().out
    assert "was started by this key before" in told
    for words in ("✓ preflight", "Steps", "abc", run_id, "wall time"):
        assert words in told


@pytest.mark.parametrize("exit_code", [1, 3])
def test_waiting_ends_as_the_run_does(fake, capsys, exit_code):
    fake.script = [("RUNNING", {}), ("FAILED", {"preflight": "FAILED"})]
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    log = event("preflight", "failed", seconds=1, error="no such column", hint="see --help", exit_code=exit_code)
    fake.write_log(run_id, "preflight", log)
    assert call(["submit", "--pipeline", "specialise", "--wait", "--json"]) == exit_code
    assert "no such column" in last_line(capsys)["error"]


def test_a_gate_that_refused_is_a_refusal_and_no_failure(fake, capsys):
    fake.script = [("RUNNING", {}), ("FAILED", {"preflight": "SUCCEEDED", "condition-1.gate": "FAILED"})]
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    facts = {"verdict": "refuse", "reasons": ["worse than the champion"]}
    fake.write_log(run_id, "condition-1.gate", event("gate", "result", facts=facts))
    assert call(["submit", "--pipeline", "specialise", "--wait"]) == 3
    assert "worse than the champion" in capsys.readouterr().out


@pytest.mark.parametrize("logs", [True, False])
def test_who_submits_again_what_waits_for_its_review_is_told_how_to_go_on(fake, capsys, logs):
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    fake.scripts[run_id] = [("SUCCEEDED", {"preflight": "SUCCEEDED", "condition-1.gate": "SUCCEEDED"})]
    facts = {"version": "7", "run_id": "f00", "override": ""}
    said = event("register", "result", facts=facts) + event("review", "result", facts={"verdict": "waiting"})
    if logs:
        fake.write_log(run_id, "condition-1.gate", said)
    capsys.readouterr()
    assert call(["submit", "--pipeline", "specialise"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    if not logs:
        assert "if its version waits for a review" in told
        return
    assert "`tokka review approve 7 --no-rollout`, then `tokka submit --pipeline rollout --run-id f00`" in told
    assert call(["submit", "--pipeline", "specialise", "--wait", "--json"]) == 0
    assert "--run-id f00" in last_line(capsys)["next"]


def test_what_was_made_before_is_the_end_table_s_as_well(fake, capsys):
    fake.script = [("RUNNING", {}), ("SUCCEEDED", {"preflight": "SUCCEEDED"})]
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    passed = {"verdict": "pass", "reasons": []}
    made = ended("abc", run_id="f00", gate=passed, mlflow="", version="7", canary={**passed, "verdict": "promoted"})
    fake.write_log(run_id, "preflight", event("preflight", "result", facts={"key": "abc", "made": made}))
    capsys.readouterr()
    assert call(["submit", "--pipeline", "specialise", "--wait"]) == 0
    told = capsys.readouterr().out
    assert "this key has been run before" in " ".join(told.split()) and "promoted" in told and "✓ preflight" in told


@pytest.mark.parametrize("state, exit_code", [("SUCCEEDED", 0), ("FAILED", 1)])
def test_waiting_ends_with_the_run_s_state_where_kubeflow_lists_no_step(fake, capsys, state, exit_code):
    fake.script = [("RUNNING", {"preflight": "RUNNING"}), ("RUNNING", {}), (state, {})]
    assert call(["submit", "--pipeline", "specialise", "--wait", "--json"]) == exit_code


def test_a_schedule_from_the_command_line(fake, capsys):
    assert call(["schedule", "--cron", "0 0 3 * * *"]) == 0
    assert "created" in capsys.readouterr().out
    assert call(["schedule", "list", "--json"]) == 0
    (only,) = last_line(capsys)["schedules"]
    assert (only["pipeline"], only["cron"], only["enabled"]) == ("retrain", "0 0 3 * * *", True)
    assert call(["schedule", "delete"]) == 0
    assert call(["schedule", "delete"]) == 0
    assert "no schedule of retrain is there" in capsys.readouterr().out


def test_logs_are_shown_for_people(fake, capsys):
    fake.script = [("RUNNING", {"preflight": "RUNNING"})]
    call(["submit", "--pipeline", "specialise"])
    (run_id,) = fake.runs
    fake.write_log(run_id, "preflight", "[bold]\n" + event("preflight", "started"))
    assert call(["logs", "--remote"]) == 0
    assert "── preflight ──\n[bold]\n[preflight] started" in capsys.readouterr().out


def test_the_newest_log_of_this_machine(fake, tmp_path, capsys):
    assert call(["logs"]) == 1
    assert "--remote" in capsys.readouterr().err
    for name in ("20260101-000000-1-retrain", "20260102-000000-1-retrain"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "log.txt").write_text(f"of {name}\n")
    assert call(["logs"]) == 0
    assert "of 20260102" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["schedule"], 2, "--cron is missing"),
        (["schedule", "--cron", "0 3 * * *"], 2, "has 5 fields"),
        (["schedule", "--cron", "0 0 3 * * *", "--pipeline", "rollout"], 2, "has no schedule"),
        (["submit", "--pipeline", "rollout"], 2, "--run-id"),
        (["submit", "--pipeline", "specialise", "--cause", "drift"], 2, "no meaning for specialise"),
        (["submit", "--data", "/srv/tickets.csv"], 2, "no pod can read"),
        (["status", "some-run"], 2, "tokka status --remote some-run"),
        (["status", "--remote", "some-run"], 1, "a run named 'some-run'"),
        (["logs", "--remote"], 1, "any run of Tokka's"),
        (["logs", "--step", "gate"], 2, "leave --step out"),
    ],
)
def test_a_mistake_gets_one_line_and_what_to_do(fake, capsys, arguments, code, words):
    assert call(arguments) == code
    told = " ".join(capsys.readouterr().err.split())
    assert words in told
    assert "→" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("arguments", [["submit"], ["schedule", "list"], ["status", "--remote"], ["logs", "--remote"]])
def test_without_a_host_or_an_answer_each_command_says_so(fake, monkeypatch, capsys, arguments):
    monkeypatch.setenv("TOKKA_KFP_HOST", f"http://127.0.0.1:{free_port()}")
    assert call(arguments) == 1
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.delenv("TOKKA_KFP_HOST")
    assert call(arguments) == 2
    assert "TOKKA_KFP_HOST is not set" in capsys.readouterr().err
