"""What a pod would lose is refused in one message; what answers is really asked."""

import http.server
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fakes.kubernetes_api import FakeApi
from tests.fixtures import small_project
from tests.fixtures.tiny_model import make_tiny_base
from tokka.deployment import surroundings
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import TokkaError
from tokka.params import load_params, parse_params
from tokka.registry.connection import Connection
from tokka.settings import Settings
from tokka.steps import gate, preflight, refuse
from tokka.training.setup.readable import readable

PARAMS = parse_params({"deployment": {"target": "local"}})


def settings(tmp_path, **more):
    return Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home"), **more})


def test_in_a_pod_each_setting_is_named_in_one_message(tmp_path):
    pod = settings(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1")
    (check,) = [check for check in preflight.checks(PARAMS, pod) if check.name == "settings"]
    assert not check.well
    names = ("TOKKA_RECORD_URL", "TOKKA_TRACKING_URI", "TOKKA_REMOTE", "TOKKA_ARCHIVE", "TOKKA_VERIFY_KEY")
    assert all(name in check.found for name in (*names, "deployment.target"))
    assert "tokka-database" in check.found and "SQLite" in check.found
    with pytest.raises(TokkaError, match="6 settings to give"):
        preflight.run(PARAMS, pod)


def test_in_a_pod_that_has_all_nothing_is_misplaced_and_a_laptop_may_keep_its_files(tmp_path):
    (tmp_path / "signing.pub").touch()
    given = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1", "TOKKA_RECORD_URL": "postgresql://db/tokka", "TOKKA_REMOTE": "s3://b/dvc",
        "TOKKA_VERIFY_KEY": "signing.pub", "TOKKA_TRACKING_URI": "http://mlflow:5000", "TOKKA_ARCHIVE": "s3://b/archive",
    }  # fmt: skip
    assert surroundings.misplaced(parse_params({}), settings(tmp_path, **given)) == []
    assert surroundings.misplaced(PARAMS, settings(tmp_path)) == []


@pytest.fixture
def tracking():
    """An MLflow server that answers with one status; what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path))
            self.send_response(200 if self.path.endswith("/health") else self.server.status)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status, words", [(401, "asks for credentials"), (403, "does not allow these credentials")])
def test_a_server_that_refuses_the_credentials_is_not_well(tmp_path, tracking, status, words):
    server, asked = tracking
    server.status = status
    where = settings(tmp_path, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(TokkaError, match=words) as caught:
        surroundings.tracking(where)
    assert ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag") in asked
    assert str(status) in caught.value.message


def test_a_tag_is_set_and_deleted(tmp_path):
    where = settings(tmp_path)
    Connection(where).prove()
    assert not [tag for tag in Connection(where).client.get_experiment("0").tags if tag.startswith("tokka.preflight")]


def test_two_jobs_of_one_key_share_what_the_first_makes(record_url, tmp_path, monkeypatch):
    where = settings(tmp_path, TOKKA_RECORD_URL=record_url)
    assert preflight.claimed("k", where, "") == {}
    assert preflight.claimed("k", where, "one") == {}
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            Claims(RecordDatabase(record_url)).conclude("k", "one", {"version": "3"})

    monkeypatch.setattr(preflight.time, "sleep", sleep)
    assert preflight.claimed("k", where, "two") == {"version": "3"}
    assert waited == [0.5, 1.0, 2.0]


PROGRAM = """
import os, sys
from tokka.settings import Settings
from tokka.deployment.record.record import Record
from tokka.jobs.job_store import JobStore
from tokka.registry import signing
from tokka import files
where = Settings.from_environment()
Record(where.record_url).read("desk"); JobStore(where.jobs_url, "desk"); signing._private_key(where)
files.write_json(where.home / "runs" / "one" / "launch.json", {})
"""


@pytest.mark.parametrize("pod, worst", [(False, 0o022), (True, 0o077)])
def test_a_launcher_without_a_umask_opens_nothing_to_others(tmp_path, pod, worst):
    """As KFP's launcher starts our code; in a pod there is a key, and none is made."""
    environment = {**os.environ, "TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)}
    commands = [[sys.executable, "-c", PROGRAM], [sys.executable, "-m", "tokka.cli.main", "keys", "list"]]
    if pod:
        environment["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
        commands[0][2] = PROGRAM.replace("signing._private_key(where)", "0")
    for command in commands:
        done = subprocess.run(command, env=environment, umask=0, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    home = tmp_path / "home"
    found = {path: path.stat().st_mode & 0o777 for path in [home, *home.rglob("*")]}
    assert {str(path): oct(mode) for path, mode in found.items() if mode & worst} == {}
    secret = [
        home / name for name in ("record.db", "record.db.lock", "jobs.db", *([] if pod else ["keys/signing.key"]))
    ]
    assert {path.name: oct(found[path]) for path in secret if found[path] != 0o600} == {}
    assert Path(home / "runs/one/launch.json").exists()


PASSED = {"verdict": "pass", "reasons": []}
ROLLED_BACK = {"verdict": "rolled_back", "reasons": ["errors"]}


@pytest.mark.parametrize(
    ("made", "verdict", "words"),
    [
        ({}, "new", ""),
        ({"gate": PASSED, "canary": {"verdict": "promoted", "reasons": []}, "version": "3"}, "made", "made version 3"),
        ({"gate": {"verdict": "refuse", "reasons": ["too slow"]}}, "refused", "too slow"),
        ({"gate": PASSED, "canary": ROLLED_BACK, "version": "3"}, "refused", "version 3"),
        ({"gate": PASSED, "review": "refused", "canary": None, "version": "3"}, "refused", "a reviewer refused it"),
    ],
)
def test_the_remembered_end_of_a_run_in_words(made, verdict, words):
    found, reasons = gate.recalled(made)
    assert found == verdict
    assert words in reasons


def test_whoever_waits_for_another_run_keeps_its_own_attempt_alive(tmp_path, monkeypatch):
    from sqlalchemy import select

    from tokka.deployment.record import leases, tables

    where = settings(tmp_path, TOKKA_JOB="two")
    (tmp_path / "home").mkdir()
    record = RecordDatabase(where.record_url)
    record.transact(lambda connection: leases.grant(connection, "two", 0.0))
    Claims(record).take("k", "one")
    held = []

    def sleep(_):
        query = select(tables.leases.c.until).where(tables.leases.c.job == "two")
        held.append(record.transact(lambda connection: connection.execute(query).scalar()))
        Claims(record).conclude("k", "one", {"version": "3"})

    monkeypatch.setattr(preflight.time, "sleep", sleep)
    assert preflight.claimed("k", where, "two") == {"version": "3"}
    assert held[0] > leases.LEASE_S


def planned(variables, job, start=None, answers=None):
    """What preflight says in a pod of `job`, and what is made of it."""
    where = Settings.from_environment({**variables, "TOKKA_JOB": job})
    params = load_params(where.root / "params.yaml", ())
    if start:
        start.wait()
    found = preflight.plan(params, where, "", job)
    if answers is None:
        return found
    if found.verdict == "new":  # the training
        made = {"gate": PASSED, "canary": {"verdict": "promoted", "reasons": []}, "version": job, "review": "approved"}
        Claims(RecordDatabase(where.record_url)).conclude(found.key, job, made)
    answers.put((found.verdict, found.key, job if found.verdict == "new" else found.made["version"]))
    return found


def project(tmp_path, **more):
    root = small_project.make(tmp_path / "root")
    return {"TOKKA_ROOT": str(root), "TOKKA_HOME": str(tmp_path / "home"), **more}


def test_two_runs_of_a_key_at_once_are_one_training_with_one_result(tmp_path, postgres):
    """Two processes on a real PostgreSQL, as two pods are."""
    variables = project(tmp_path, TOKKA_RECORD_URL=postgres.database())
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    pods = [context.Process(target=planned, args=(variables, job, start, answers)) for job in ("one", "two")]
    for pod in pods:
        pod.start()
    (first, key, version), (second, other, shared) = sorted((answers.get() for _ in pods), reverse=True)
    for pod in pods:
        pod.join()
    assert (first, second) == ("new", "made")
    assert (key, version) == (other, shared)


def test_rows_that_were_refused_are_refused_again_without_a_claim(tmp_path):
    variables = project(tmp_path)
    (tmp_path / "home").mkdir()
    first = planned(variables, "one")
    assert first.verdict == "new"
    where = Settings.from_environment({**variables, "TOKKA_JOB": "one"})
    refuse.run("validate_data", "300 of 900 texts are empty", where, "one", first.inputs["validate_data"])
    again = planned(variables, "two")
    assert (again.verdict, again.made) == ("refused", {})
    assert again.reasons.splitlines() == [
        "the same rows were refused before, by the same rules", "300 of 900 texts are empty",
    ]  # fmt: skip
    assert Claims(RecordDatabase(where.record_url)).find(again.key) is None
    with Path(variables["TOKKA_ROOT"], "data", "sample.csv").open("a") as file:
        file.write("a further row,billing\n")
    assert planned(variables, "three").verdict == "new"


def test_a_base_model_that_cannot_read_the_language_is_refused_with_numbers(tmp_path):
    make_tiny_base(tmp_path / "base")
    rows = {"read": "where is my card", "partly": "where is my card 电", "strange": "电池不耐用 my"}
    for name, text in rows.items():
        (tmp_path / f"{name}.csv").write_text("text,label\n" + f"{text},a\n" * 20, encoding="utf-8")
    for name, wanted in (
        ("read", (True, "0.0% of the tokens of 20 texts are unknown to")),
        ("partly", (True, "warning: 20.0% of the tokens")),
        ("strange", (False, "83.3% of the tokens of 20 texts are unknown to")),
        ("absent", (True, "not looked at, for the data cannot be read")),
    ):
        tree = {"data": {"source": str(tmp_path / f"{name}.csv")}, "model": {"base": str(tmp_path / "base")}}
        found = [one for one in preflight.checks(parse_params(tree), settings(tmp_path)) if one.name == "tokenizer"]
        assert (found[0].well, wanted[1] in found[0].found) == (wanted[0], True), found[0].found
    allowed = parse_params({**tree, "data": {"source": str(tmp_path / "strange.csv")}})
    tree = allowed.model_dump(exclude_none=True)
    tree["model"]["maximum_unknown"] = 1.0
    assert "warning" in readable(parse_params(tree), settings(tmp_path))


def test_several_machines_are_refused_before_anything_costs(tmp_path, monkeypatch):
    """On a laptop, and in a pod whose cluster does not answer; what one machine would take its place is said."""
    several = parse_params({"finetuning": {"nodes": 2, "devices": 2}})
    name = "machines of the training"
    (check,) = [one for one in preflight.checks(several, settings(tmp_path)) if one.name == name]
    assert not check.well and "needs Kubernetes" in check.found and "finetuning.devices: 4" in check.hint
    assert name not in [one.name for one in preflight.checks(PARAMS, settings(tmp_path))]
    monkeypatch.setenv("TOKKA_NAMESPACE", "kubeflow")
    api = FakeApi(())
    with pytest.raises(TokkaError, match="no Kubeflow Trainer"):
        surroundings.nodes(several.finetuning, settings(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1"), api)
