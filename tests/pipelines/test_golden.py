"""What Kubeflow would get: form, wiring, conditions, cacheability, images. `make golden` refreshes the files."""

import json
import os
import re
import subprocess
import sys

import pytest

from components import IMAGE
from tests.pipelines.ir import COMPUTE, GOLDEN, ROOT, dags, meaning, read, step, tasks
from tokka.params import form_fields, load_params
from tokka.runs.kubeflow import compile_pipelines

NAMES = ["retrain", "specialise", "rollout", "tune"]
CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '(\w+)'")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return {path.stem: path for path in compile_pipelines(ROOT, tmp_path_factory.mktemp("ir"))}


@pytest.fixture(scope="module")
def compiled(paths):
    return {name: read(path) for name, path in paths.items()}


@pytest.mark.parametrize("name", NAMES)
def test_what_it_means_is_the_golden_file(compiled, name):
    path, found = GOLDEN / f"{name}.json", meaning(*compiled[name])
    if os.environ.get("TOKKA_REFRESH_GOLDEN"):
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(path.read_text()), "if the change is meant: make golden"


def test_the_same_pipelines_are_the_same_bytes(compiled, tmp_path, monkeypatch):
    """From process to process, under any hash seed: KFP's names follow the order of a map."""
    for seed in ("1", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        subprocess.run(
            [sys.executable, "-m", "pipelines.compile", str(tmp_path / seed)], cwd=ROOT, check=True, capture_output=True
        )
    for name, found in compiled.items():
        first, second = ((tmp_path / seed / f"{name}.yaml").read_bytes() for seed in "13")
        assert first == second
        assert read(tmp_path / "1" / f"{name}.yaml") == found


def test_one_compiled_alone_is_the_same_bytes(paths, tmp_path):
    for name in NAMES:
        (alone,) = compile_pipelines(ROOT, tmp_path, names=[name])
        assert alone.read_bytes() == paths[name].read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_form_can_be_started_as_it_stands(compiled, name):
    ir, _ = compiled[name]
    inputs, ours = ir["root"]["inputDefinitions"], form_fields(load_params(ROOT / "params.yaml"))
    assert "artifacts" not in inputs
    for field, spec in inputs["parameters"].items():
        assert spec["isOptional"] is True and "defaultValue" in spec, field
        assert spec["description"] and "\n" not in spec["description"], field
        assert spec["defaultValue"] == ours.get(field, spec["defaultValue"])
        if "literals" in spec:
            assert spec["defaultValue"] in spec["literals"]
    choices = {field for field, spec in inputs["parameters"].items() if "literals" in spec}
    assert choices == set(inputs["parameters"]) & {"strategy", "review", "cause"}
    assert inputs["parameters"]["overrides"]["defaultValue"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_nested_pipeline_takes_what_says_nothing(compiled, name):
    """The cluster's driver holds every input against its literals: an empty text would be refused."""
    for component in compiled[name][0]["components"].values():
        assert not [
            one for one in component.get("inputDefinitions", {}).get("parameters", {}).values() if "literals" in one
        ]


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_reads_at_its_first_level(compiled, name):
    groups = [key for key, _ in dags(compiled[name][0]) if key.startswith("comp-condition")]
    assert groups == []
    assert len(compiled[name][0]["root"]["dag"]["tasks"]) <= 12


def test_refusals_are_tasks_that_say_what_was_refused(compiled):
    ir, _ = compiled["specialise"]
    named = {task["taskInfo"]["name"] for _, task in tasks(ir) if step(ir, task) == "refuse"}
    assert named == {"data refused", "refused by the gate", "refused in review", "rolled back", "refused before"}


@pytest.mark.parametrize("name", NAMES)
def test_only_compute_is_cached(compiled, name):
    for key, task in tasks(compiled[name][0]):
        if step(compiled[name][0], task):
            assert task["cachingOptions"].get("enableCache", False) == (key in COMPUTE), key


@pytest.mark.parametrize("name", NAMES)
def test_what_looks_at_the_world_differs_in_each_run(compiled, name):
    """A run that is submitted with caching on overrides what was compiled."""
    ir, _ = compiled[name]
    for key, task in tasks(ir):
        if step(ir, task) and key not in COMPUTE:
            job = task["inputs"]["parameters"]["job"]
            assert job == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}, key


@pytest.mark.parametrize("name", NAMES)
def test_every_condition_reads_an_output_that_both_runners_can_resolve(compiled, name):
    # kfp.local evaluates a condition on any other name as false, with no more than a warning.
    ir, _ = compiled[name]
    for key, task in tasks(ir):
        condition = task.get("triggerPolicy", {}).get("condition", "")
        for part in filter(None, condition.split(" && ")):
            read_from = CONDITION.fullmatch(part).group(1)
            assert read_from.endswith("-Output")
            source = task["inputs"]["parameters"][read_from]
            # What an exit handler is around comes from outside it, under the same name.
            assert source.get("componentInputParameter", read_from) == read_from, key
            assert source.get("taskOutputParameter", {}).get("outputParameterKey", "Output") == "Output", key


@pytest.mark.parametrize("name", NAMES)
def test_every_task_runs_in_the_one_image(compiled, name):
    executors = compiled[name][0]["deploymentSpec"]["executors"].values()
    assert {spec["container"]["image"] for spec in executors} == {IMAGE}


def test_artifacts_have_names_of_their_own(compiled):
    names = [
        name
        for key, component in compiled["retrain"][0]["components"].items()
        if "dag" not in component
        for name in component.get("outputDefinitions", {}).get("artifacts", {})
    ]
    assert len(names) == len(set(names))


def test_an_image_by_digest_and_a_profile_can_be_asked_for(tmp_path):
    paths = compile_pipelines(ROOT, tmp_path, profile="gpu", image="registry.example.com/tokka@sha256:abc")
    ir, kubernetes = read(next(path for path in paths if path.stem == "specialise"))
    executors = ir["deploymentSpec"]["executors"]
    assert {spec["container"]["image"] for spec in executors.values()} == {"registry.example.com/tokka@sha256:abc"}
    with_gpu = {label for label, one in executors.items() if "accelerator" in one["container"]["resources"]}
    assert with_gpu == {"exec-finetune"}
    (expression,) = kubernetes["exec-finetune"]["nodeAffinity"][0]["matchExpressions"]
    assert (expression["key"], expression["operator"], expression["values"]) == (
        "nvidia.com/gpu.compute.major", "Gt", ["7"],
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_pod_is_root_and_one_step_alone_signs(compiled, name):
    _, kubernetes = compiled[name]
    for label, asked in kubernetes.items():
        context = asked["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, "10001"), label
        secrets = {one["secretName"] for one in asked.get("secretAsVolume", [])}
        assert secrets == ({"tokka-signing"} if label == "exec-register" else set()), label


def test_the_files_are_what_kubeflow_reads(paths):
    """KFP's own loader takes them, platform and all."""
    from kfp import components

    for path in paths.values():
        loaded = components.load_component_from_file(str(path))
        assert loaded.pipeline_spec.root.dag.tasks
        assert loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors


@pytest.mark.parametrize(("verdict", "runs"), [("made", {"preflight"}), ("refused", {"preflight", "refused before"})])
def test_what_was_made_before_costs_one_task(compiled, verdict, runs):
    """Two more have a driver that looks at their condition; whatever depends on them is skipped without a pod."""
    graph = compiled["specialise"][0]["root"]["dag"]["tasks"]
    looked_at = {key for key, task in graph.items() if set(task.get("dependentTasks", [])) <= {"preflight"}}
    told = f"inputs.parameter_values['pipelinechannel--preflight-Output'] == '{verdict}'"
    ran = {
        graph[key]["taskInfo"]["name"]
        for key in looked_at
        if graph[key].get("triggerPolicy", {}).get("condition", told) == told
    }
    assert ran == runs
    assert len(looked_at) == 3


def test_workers_of_a_search_wait_for_rows_that_were_accepted(compiled):
    """A loop has no condition of its own: it is left out as what needs a task that was skipped."""
    graph = compiled["tune"][0]["root"]["dag"]["tasks"]
    (loop,) = (task for task in graph.values() if "parameterIterator" in task)
    assert "triggerPolicy" not in loop or "condition" not in loop["triggerPolicy"]
    assert "preprocess" in loop["dependentTasks"]
    assert "'pass'" in graph["preprocess"]["triggerPolicy"]["condition"]
    assert graph["preflight"]["inputs"]["parameters"]["claims"] == {"runtimeValue": {"constant": False}}
