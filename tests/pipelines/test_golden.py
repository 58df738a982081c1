"""What Kubeflow would get: task ids, wiring, conditions, cacheability and images. `make golden` refreshes the files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components import IMAGE
from tokka.runs.kubeflow import compile_pipelines

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
DECISIONS = {"detect-drift", "preflight", "evaluate", "gate", "register", "review", "canary", "complete-evaluation"}
COMPUTE = {"validate-data", "preprocess", "finetune"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    paths = compile_pipelines(ROOT, tmp_path_factory.mktemp("ir"))
    return {path.stem: yaml.safe_load(path.read_text()) for path in paths}


def dags(ir):
    yield "root", ir["root"]
    for name, component in ir["components"].items():
        if "dag" in component:
            yield name, component


def wiring(ir):
    """The structure without the components' source code."""
    return {
        name: {
            task: {key: value for key, value in spec.items() if key != "componentRef"}
            for task, spec in sorted(dag["dag"]["tasks"].items())
        }
        for name, dag in sorted(dags(ir))
    }


@pytest.mark.parametrize("name", ["retrain", "specialise", "rollout"])
def test_the_structure_is_the_golden_one(compiled, name):
    path = GOLDEN / f"{name}.json"
    found = json.dumps(wiring(compiled[name]), indent=1, sort_keys=True) + "\n"
    if os.environ.get("TOKKA_REFRESH_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text(), "if the change is meant: make golden"


def test_the_same_pipelines_are_the_same_bytes(compiled, tmp_path, monkeypatch):
    """From process to process, under any hash seed: KFP's names follow the order of a map."""
    for seed in ("1", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        subprocess.run(
            [sys.executable, "-m", "pipelines.compile", str(tmp_path / seed)], cwd=ROOT, check=True, capture_output=True
        )
    for name, ir in compiled.items():
        first, second = ((tmp_path / seed / f"{name}.yaml").read_bytes() for seed in "13")
        assert first == second
        assert yaml.safe_load(first) == ir


@pytest.mark.parametrize("name", ["retrain", "specialise", "rollout"])
def test_decisions_are_never_cached_and_compute_is(compiled, name):
    seen = set()
    for _, dag in dags(compiled[name]):
        for task, spec in dag["dag"]["tasks"].items():
            cached = spec.get("cachingOptions", {}).get("enableCache", False)
            assert cached == (task in COMPUTE), task
            seen.add(task)
    assert seen & (DECISIONS | COMPUTE)


def test_compute_steps_know_the_version_of_the_code(compiled):
    for _, dag in dags(compiled["retrain"]):
        for task, spec in dag["dag"]["tasks"].items():
            if task in COMPUTE:
                assert "code_version" in spec["inputs"]["parameters"], task


def test_one_pipeline_is_inside_the_other(compiled):
    assert "comp-specialise" in compiled["retrain"]["components"]
    assert "comp-rollout" in compiled["specialise"]["components"]
    assert "comp-detect-drift" not in compiled["specialise"]["components"]


@pytest.mark.parametrize("name", ["retrain", "specialise", "rollout"])
def test_every_condition_reads_an_output_that_the_local_runner_can_resolve(compiled, name):
    # kfp.local evaluates a condition on any other name as false, with no more than a warning.
    for _, dag in dags(compiled[name]):
        for spec in dag["dag"]["tasks"].values():
            condition = spec.get("triggerPolicy", {}).get("condition", "")
            if condition:
                assert "-Output']" in condition
                assert condition.count("'") == 4


@pytest.mark.parametrize("name", ["retrain", "specialise", "rollout"])
def test_every_task_runs_in_the_one_image(compiled, name):
    images = {spec["container"]["image"] for spec in compiled[name]["deploymentSpec"]["executors"].values()}
    assert images == {IMAGE}


@pytest.mark.parametrize("name", ["retrain", "specialise", "rollout"])
def test_every_pipeline_starts_by_itself_from_parameters_alone(compiled, name):
    inputs = compiled[name]["root"]["inputDefinitions"]
    assert "artifacts" not in inputs
    required = {key for key, spec in inputs["parameters"].items() if not spec.get("isOptional")}
    assert required == ({"params", "run_id"} if name == "rollout" else {"params"})
