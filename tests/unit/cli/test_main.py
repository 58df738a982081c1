"""What a user's mistake gets: one line, what to do, and an exit code; never a traceback."""

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command

from tokka.cli.main import app, call

COMMANDS = ["run", "sample", "doctor", "up", "down", "status", "predict", "rollback", "monitor", "compile", "stage"]
COMMANDS += ["reproduce", "demo", "tune", "consume", "submit", "schedule", "logs", "trigger", "serve-hooks"]
COMMANDS += ["notify"]
COMMANDS += ["compare", "fetch-model"]
COMMANDS += ["hook install", "hook uninstall", "hook status", "hook work", "hook secret"]
COMMANDS += ["review list", "review show", "review approve", "review refuse", "review audit", "review key"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKKA_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_an_example(command, capsys):
    assert call([*command.split(), "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


def test_no_command_is_without_a_test():
    names = {name for name, command in get_command(app).commands.items() if not hasattr(command, "commands")}
    assert names == {command for command in COMMANDS if " " not in command}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["runn"], 2, "No such command"),
        (["run", "--set", "finetuning.epoch=2"], 2, "did you mean 'finetuning.epochs'"),
        (["run", "--set", "finetuning.epochs=0"], 2, "greater than or equal to 1"),
        (["run", "--set", "nonsense"], 2, "is not section.key=value"),
        (["run", "--params", "nowhere.yaml"], 2, "does not exist"),
        (["run", "--data", "nowhere.csv"], 1, "nowhere.csv"),
        (["run", "--pipeline", "deploy"], 2, "deploy"),
        (["run", "--pipeline", "rollout"], 2, "--run-id"),
        (["stage", "bake"], 2, "the stages are"),
        (["predict", " "], 2, "empty message"),
        (["predict", "hello"], 1, "no stack is running"),
        (["predict", "hello", "--set", "finetuning.epoch=2"], 2, "did you mean 'finetuning.epochs'"),
        (["rollback"], 3, "previous"),
        (["consume"], 2, "TOKKA_BROKER"),
        (["serve-hooks"], 2, "tokka hook secret --new"),
        (["trigger", "--before", "nowhere"], 2, "is no commit"),
        (["sample", "--rows", "3"], 2, "500"),
    ],
)
def test_a_mistake_gets_one_line_and_what_to_do(arguments, code, words, capsys):
    assert call(arguments) == code
    told = capsys.readouterr().err
    assert words in told
    assert "→" in told
    assert "Traceback" not in told


def test_with_json_the_last_line_of_standard_output_is_an_object(capsys):
    assert call(["run", "--data", "nowhere.csv", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["exit_code"] == 1
    assert "nowhere.csv" in found["error"]


def test_nothing_is_left_by_a_mistake(home):
    call(["run", "--set", "finetuning.epoch=2"])
    assert not (home / "home").exists()


@pytest.mark.parametrize(("port", "code"), [("80", 2), ("x", 2), ("70000", 2)])
def test_a_port_that_is_none_is_named(port, code, monkeypatch, capsys):
    monkeypatch.setenv("TOKKA_PORT", port)
    assert call(["down"]) == code
    assert f"TOKKA_PORT='{port}'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run", "--help"], ["doctor", "--json"]])
def test_a_reader_who_has_seen_enough_is_no_defect(arguments, home):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tokka.cli.main", *arguments]
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "defect" not in run.stderr and "Traceback" not in run.stderr and "BrokenPipe" not in run.stderr
    assert run.returncode == 1
    assert not list(home.rglob("crash-*"))
