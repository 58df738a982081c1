"""A run that is started for a commit, on a Kubeflow that is asked over HTTP; and one that a killed worker had begun."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures import small_project
from tests.fixtures.repositories import git, settings_of
from tests.fixtures.waiting import wait_for
from tokka import failpoints
from tokka.errors import TokkaError
from tokka.params import load_params, parse_params
from tokka.triggers import asking
from tokka.triggers.git import Mirror
from tokka.triggers.runner import Ran, Runner, bring_data, last_object, outcome
from tokka.triggers.worker import Worker

WORK = """
import sys
import threading
from tokka.params import load_params
from tokka.settings import Settings
from tokka.triggers.worker import Worker
settings = Settings.from_environment()
Worker(settings, load_params(settings.root / "params.yaml")).run(once=True)
"""


@pytest.fixture
def project(tmp_path):
    root = small_project.make(tmp_path / "project")
    small_project.frozen(root, tmp_path / "compiled")
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("  start: run ", "  start: submit "))
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "first")
    return root


def change(root):
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("epochs: 6\n", "epochs: 5\n"))
    git(root, "commit", "-q", "-a", "-m", "fewer epochs")
    return git(root, "rev-parse", "HEAD")


def test_a_worker_killed_between_submit_and_record_leaves_one_run_on_kubeflow(project, tmp_path):
    plan, home = tmp_path / "plan", tmp_path / "home"
    settings = settings_of(project, TOKKA_HOME=str(home))
    params = load_params(project / "params.yaml")
    Worker(settings, params).run(once=True)
    with FakeKubeflow() as kubeflow, pytest.MonkeyPatch.context() as patch:
        own = {"TOKKA_ROOT": str(project), "TOKKA_HOME": str(home), "TOKKA_KFP_HOST": kubeflow.host}
        environment = {**os.environ, **own, failpoints.VARIABLE: str(plan), "TOKKA_GIT_TOKEN": "a secret"}
        commit = change(project)
        plan.write_text("trigger:after:1")
        codes = [subprocess.run([sys.executable, "-c", WORK], env=environment, check=False).returncode for _ in "12"]
        assert codes == [-signal.SIGKILL, 0]
        (run,) = kubeflow.runs.values()
        assert kubeflow.count("POST /apis/v2beta1/runs$") == 1
        assert run.runtime_config.parameters["cause"] == "git"
        assert run.runtime_config.parameters["commit"] == commit
        worker = Worker(settings, params)
        entry = worker.queue.newest()[0]
        assert (entry.state, entry.push.after, entry.result["run_id"]) == ("started", commit, run.run_id)
        worker.queue.put_off(entry, 0.0)
        # It ends there, and the commit's note says how.
        patch.setenv("TOKKA_KFP_HOST", kubeflow.host)
        kubeflow.scripts[run.run_id] = [("SUCCEEDED", {})]
        worker.run(once=True)
    assert asking.told(worker.queue.find(entry.push))["state"] == "done"
    assert "retraining succeeded" in git(project, "notes", "--ref", "tokka", "show", commit)
    assert git(project, "status", "--porcelain") == ""


def test_a_run_is_given_the_work_tree_its_code_and_no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKKA_GIT_TOKEN", "a secret")
    monkeypatch.setenv("TOKKA_HOME", "elsewhere")
    tree, settings = tmp_path / "tree", settings_of(tmp_path / "project")
    (tree / "src" / "tokka").mkdir(parents=True)
    found = Runner(settings, parse_params({}), ("TOKKA_GIT_TOKEN",)).environment(tree)
    assert "TOKKA_GIT_TOKEN" not in found
    assert found["TOKKA_ROOT"] == str(tree)
    assert found["TOKKA_HOME"] == str(settings.home)
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(tree / "src")


def test_data_that_git_does_not_have_is_read_from_the_project(tmp_path):
    tree, root, params = tmp_path / "tree", tmp_path / "project", parse_params({"data": {"source": "data/a.csv"}})
    for folder in (tree, root):
        (folder / "data").mkdir(parents=True)
    (root / "data" / "a.csv").write_text("text,label")
    here = Runner(settings_of(root), parse_params({}))
    assert here.places(tree, params) == [f"data.source={root}/data/a.csv"]
    assert Runner(settings_of(root), parse_params({"triggers": {"start": "submit"}})).places(tree, params) == []
    (tree / "data" / "a.csv").write_text("text,label")
    assert here.places(tree, params) == []


def test_data_that_a_commit_has_as_a_pointer_is_pulled_or_says_why_not(tmp_path):
    remote, root = tmp_path / "remote", tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "a.csv").write_text("text,label")
    dvc = [sys.executable, "-m", "dvc"]
    added = ["remote", "add", "-q", "-d", "r", str(remote)]
    for command in (["init", "-q"], added, ["add", "-q", "a.csv"], ["push", "-q"]):
        subprocess.run([*dvc, *command], cwd=root, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True)
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "data")
    mirror, params = Mirror(tmp_path / "home", "a", str(root)), parse_params({"data": {"source": "a.csv"}})
    assert mirror.fetch("refs/heads/main")
    commit = git(root, "rev-parse", "HEAD")
    with mirror.checkout(commit) as tree:
        bring_data(tree, params)
        assert (tree / "a.csv").read_text() == "text,label"
        assert git(tree, "status", "--porcelain") == ""
    shutil.rmtree(remote)
    with mirror.checkout(commit) as tree, pytest.raises(TokkaError, match=r"a\.csv cannot be pulled by DVC"):
        bring_data(tree, params)


def test_the_last_object_of_a_log_is_what_a_command_has_said():
    assert last_object('{"a": 1}\nnoise\n{"b": 2}\nThe report is being completed\n{not json') == {"b": 2}
    assert last_object("nothing") == {}


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"gate": {"verdict": "refuse", "reasons": ["worse"]}}, "refuse"),
        ({"gate": {"verdict": "pass"}, "canary": {"verdict": "rolled_back"}}, "rolled_back"),
        ({"cached": True}, "made"),
        ({}, "failed"),
        ({"gate": None, "canary": None}, "failed"),
    ],
)
def test_what_a_run_came_to_is_its_last_verdict(told, verdict):
    assert outcome(Ran(code=0, told=told), "run")["verdict"] == verdict


def test_a_worker_that_is_ended_ends_its_run_as_ctrl_c_does(tmp_path):
    tree, settings = tmp_path / "tree", settings_of(tmp_path)
    tree.mkdir()
    runner = Runner(settings, parse_params({}))
    log = settings.home / "logs" / f"git-{'k' * 12}.log"
    thread = threading.Thread(target=runner, args=(tree, parse_params({}), "k" * 32, "c" * 40))
    thread.start()
    wait_for(lambda: log.exists() and runner._running is not None)
    runner.end()
    thread.join(60)
    assert not thread.is_alive()
