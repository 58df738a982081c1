"""What `tokka status` says of the judge: its e-values on their way, for the rollout that runs and for no other."""

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from tokka.cli import overview
from tokka.deployment import rollout_files
from tokka.deployment.judge.phases import Action
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision, State
from tokka.params import parse_params
from tokka.processes import process
from tokka.settings import Settings
from tokka.stack import state_file

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
STATE = State(endpoint="desk", generation=4, champion=ONE, challenger=TWO, phase="step", share=0.25, rollout="r1")
VALUES = {"errors": 10.0, "errors_limit": 100.0, "slow": 0.5, "slow_limit": 100.0, "requests": 40.0}


@pytest.fixture
def found(tmp_path):
    rollout_files.write(tmp_path, STATE, Action("wait", "requests", ("too few requests",), values=VALUES), 7.0)
    return overview.judge(rollout_files.read(tmp_path), STATE)


def test_e_values_stand_beside_their_thresholds(found):
    assert found["e_values"] == {
        "errors": {"e_value": 10.0, "threshold": 100.0},
        "slow": {"e_value": 0.5, "threshold": 100.0},
    }
    assert (found["version"], found["phase"], found["reasons"]) == ("2", "step", ["too few requests"])
    out = Console(file=io.StringIO(), width=160)
    out.print(overview._judge(found))
    lines = out.file.getvalue().splitlines()
    assert "too few requests" in lines[0]
    assert [line.split() for line in lines[2:]] == [["errors", "10", "100", "50%"], ["slow", "0.5", "100", "0%"]]


def test_what_another_rollout_left_is_not_shown(tmp_path, found):
    written = rollout_files.read(tmp_path)
    assert overview.judge(written, STATE.model_copy(update={"rollout": "r2"})) is None
    assert overview.judge(written, State(endpoint="desk", champion=ONE, rollout="r1")) is None
    assert overview.judge(None, STATE) is None


def test_a_watch_for_scripts_is_one_json_object_a_line(tmp_path):
    environment = {**os.environ, "TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)}
    (tmp_path / "params.yaml").write_text("task: {type: classification}\n")
    command = [sys.executable, "-m", "tokka.cli.main", "status", "--watch", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        finally:
            watching.terminate()
    assert all(line["judge"] is None and line["record"]["phase"] == "idle" for line in lines)


def test_the_status_is_of_the_name_that_the_stack_serves_whatever_params_yaml_says(tmp_path):
    """A run with `--set registry.model=billing` starts such a stack; `tokka status` after it has no such word."""
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    record = Record(settings.record_url)
    record.compare_and_set(record.read("billing"), champion=ONE)
    asked = {name: parse_params({"registry": {"model": name}}) for name in ("desk", "billing")}
    assert overview.overview(settings, asked["desk"]).record.champion is None
    state_file.folder(settings).mkdir(parents=True)
    own = {"pid": os.getpid(), "started": process.identity(os.getpid())}
    said = state_file.StackInfo(**own, updated=0.0, name="billing", endpoint="http://127.0.0.1:1")
    state_file.publish(settings, said)
    shown = [overview.overview(settings, params).record for params in asked.values()]
    assert [(one.endpoint, one.champion) for one in shown] == [("billing", ONE)] * 2
