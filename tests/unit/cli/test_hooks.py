"""`tokka hook`, as somebody types it in a project of their own."""

import json

import pytest

from tests.fixtures.repositories import Repository, params
from tests.fixtures.waiting import wait_for
from tokka.cli.main import call


@pytest.fixture
def repository(tmp_path, monkeypatch):
    found = Repository(tmp_path / "git")
    monkeypatch.chdir(found.work)
    monkeypatch.setenv("TOKKA_ROOT", str(found.work))
    monkeypatch.setenv("TOKKA_HOME", str(tmp_path / "home"))
    return found


def asked(capsys, *arguments):
    capsys.readouterr()
    code = call([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_hooks_come_tell_and_go(repository, tmp_path, capsys):
    code, told = asked(capsys, "hook", "install")
    assert (code, {one["state"] for one in told["hooks"]}) == (0, {"ours"})
    commit = repository.commit({"README.md": "two"})
    wait_for(lambda: list((tmp_path / "home" / "hooks" / "spool").glob("*.push")))
    assert asked(capsys, "hook", "work", "--once") == (0, {"decided": 1})
    (row,) = asked(capsys, "hook", "status")[1]["pushes"]
    assert (row["after"], row["state"]) == (commit, "ignored")
    assert {one["state"] for one in asked(capsys, "hook", "uninstall")[1]["hooks"]} == {"absent"}


def test_another_repository_is_to_be_named(repository, capsys):
    code, told = asked(capsys, "hook", "install", str(repository.bare))
    assert code == 2
    assert f"url: {repository.bare}" in told["hint"]
    (repository.work / "params.yaml").write_text(params(triggers={"repositories": [
        {"name": "team/helpdesk", "url": str(repository.bare)}]}))  # fmt: skip
    assert asked(capsys, "hook", "install", str(repository.bare))[0] == 0


def test_a_dry_run_says_what_would_start(repository, capsys):
    repository.commit({"params.yaml": params(finetuning={"epochs": 1})})
    code, told = asked(capsys, "trigger", "--before", "HEAD~1", "--dry-run")
    assert (code, told["state"], told["changes"]) == (0, "would start", ["params.yaml finetuning changed"])


def test_a_secret_is_shown_once(repository, tmp_path, capsys):
    first = asked(capsys, "hook", "secret", "--new")[1]["secret"]
    second = asked(capsys, "hook", "secret", "--new")[1]["secret"]
    told = asked(capsys, "hook", "secret")[1]
    assert told["secrets"] == 2
    assert "secret" not in told
    assert (tmp_path / "home/hooks/webhook.secret").read_text().split() == [second, first]
