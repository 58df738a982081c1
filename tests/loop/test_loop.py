"""The true DAG on small data, as a user runs it: from the compiled IR, in processes, with kills and refusals.

The tests of this file tell one story and run in order.
"""

import json
import os
import signal

import pytest

from tests.fixtures.waiting import wait_for
from tests.loop.world import TIMEOUT
from tokka import files, pending
from tokka.deployment.review.versions import list_versions
from tokka.gateway.client import predict
from tokka.registry.mlflow_client import Registry

pytestmark = pytest.mark.slow
AGAIN = "finetuning.seed=8"


def versions(world):
    return list_versions(world.params(), world.settings)


def test_one_command_makes_a_first_version_that_answers(world):
    final = world.tokka("run")
    assert [step["name"] for step in final["steps"]] == [
        "detect_drift", "preflight", "validate_data", "preprocess", "finetune",
        "evaluate", "gate", "register", "review", "canary",
    ]  # fmt: skip
    assert {step["status"] for step in final["steps"]} == {"done"}
    assert (final["version"], final["gate"]["verdict"], final["canary"]["verdict"]) == ("1", "pass", "promoted")
    assert final["answer"]["model_version"] == "1"
    assert final["metrics"]["candidate"]["accuracy"] > final["metrics"]["general"]["accuracy"]
    assert final["metrics"]["champion"] == {}


def test_the_report_and_the_run_are_completed_once_the_endpoint_answers(world):
    evidence = world.evidence()
    if (pid := world.completion()) is not None:
        os.kill(pid, signal.SIGKILL)
        assert pending.waiting(world.home), "a killed completion is no completed one"
    world.wait_until_completed()
    details, page = files.read_json(evidence / "details.json"), (evidence / "report.html").read_text()
    assert details["pending"] == []
    assert "problems" not in details
    assert {row["name"] for row in details["decision"]["rows"]} == {"candidate", "fp32", "general"}
    assert "being measured" not in page
    assert evidence.with_name("report").read_text() == page, "the page that Kubeflow's UI and the admin page show"
    registry = Registry(world.settings, world.params().registry.model)
    metrics = registry.run(registry.version("1").run_id).metrics
    assert {"ways/fp32_quality", "behaviour/candidate_robustness"} <= set(metrics)
    registry.download_evidence("1", world.home / "downloaded")
    assert files.read_json(world.home / "downloaded" / "details.json") == details
    assert "This specialist, fp32" in (world.home / "downloaded" / "model_card.md").read_text()


def test_without_a_change_nothing_is_done_again(world):
    final = world.tokka("run")
    assert (final["cached"], final["version"], final["steps"]) == (True, "1", [])
    assert len(versions(world)) == 1


def test_the_endpoint_and_its_status(world):
    (answer,) = world.tokka("predict", "where is my parcel")["answers"]
    assert answer["model_version"] == "1"
    assert answer["label"]
    found = world.tokka("status")
    assert found["record"]["champion"]["version"] == "1"
    assert found["stack"]["champion"] == found["record"]["champion"]["digest"]
    doctor = world.tokka("doctor")
    assert doctor["well"] is True
    assert f"(generation {world.state().generation})" in json.dumps(doctor)


def test_a_version_is_rebuilt_from_its_lineage_alone(world):
    found = world.tokka("reproduce", "1")
    assert found["same"] is True
    assert {link["name"] for link in found["links"]} >= {
        "tag data_digest", "tag model_digest", "key", "source_digest", "base_digest", "code_version",
        "dvc_lock", "data_digest", "model_digest",
    }  # fmt: skip


def test_interrupted_by_ctrl_c_nothing_runs_on(world):
    child = world.start("run", "--set", AGAIN)
    world.wait_for_event("preflight", "done")
    os.killpg(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=TIMEOUT)
    assert child.returncode == 130
    assert "interrupted" in error
    wait_for(lambda: not world.processes_of_runs(), what=world.processes_of_runs)
    assert world.state().champion.version == "1"


def test_killed_while_training_and_started_twice_it_makes_one_version(world):
    child = world.start("run", "--set", AGAIN)
    world.wait_for_event("finetune", "progress")
    child.kill()
    child.communicate()
    first, second = (world.start("run", "--set", AGAIN, "--json") for _ in range(2))
    finals = [world.finish(one) for one in (first, second)]
    assert {final["version"] for final in finals} == {"2"}
    assert sorted(final["cached"] for final in finals) == [False, True]
    assert len(versions(world)) == 2
    assert world.state().champion.version == "2"
    assert world.state().previous.version == "1"


def test_rolling_back_is_one_write(world):
    world.tokka("rollback")
    assert world.state().champion.version == "1"
    assert world.tokka("predict", "hello there")["answers"][0]["model_version"] == "1"
    world.tokka("rollback", code=3)


def test_an_a_b_test_from_start_to_winner(world):
    started = world.tokka("ab", "start", "2", "--share", "0.5")
    assert (started["phase"], started["share"], started["champion"]["version"]) == ("ab", 0.5, "1")
    url = f"http://127.0.0.1:{world.settings.port}"
    world.tokka("ab", "start", "2", code=3)
    seen = [predict(url, [f"where is parcel {number}"])[0]["model_version"] for number in range(40)]
    assert {"1", "2"} == set(seen)
    status = world.tokka("ab", "status")
    assert (status["champion"], status["challenger"], status["share"]) == ("1", "2", 0.5)
    assert status["metrics"]["errors"]["low"] <= 0 <= status["metrics"]["errors"]["high"]
    world.tokka("ab", "stop", "--winner", "3", code=2)
    ended = world.tokka("ab", "stop", "--winner", "1")
    assert (ended["champion"]["version"], ended["challenger"]) == ("1", None)
    loser = world.tokka("review", "show", "2")
    assert loser["tags"]["tokka.canary"] == "rolled_back" and "challenger" not in loser["aliases"]
    world.tokka("ab", "status", code=3)


def test_without_traffic_there_is_no_drift_and_no_retraining(world):
    final = world.tokka("monitor", "--once")
    assert final["drift"]["verdict"] == "wait"
    assert final["gate"] is None


def test_down_leaves_nothing(world):
    assert world.tokka("down")["stopped"] is True
    world.wait_until_quiet()
