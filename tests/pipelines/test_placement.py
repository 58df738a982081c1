"""infra/kubernetes/pipeline.yaml: layers, and faults told in words."""

import pytest
import yaml

import components
from pipelines.placement import FILE, load, seconds
from tests.pipelines.ir import ROOT
from tokka.errors import UsageError
from tokka.runs.kubeflow import compile_pipelines

STEPS = ("finetune", "register", "refuse")
EVERY = {
    "cpu": {"request": "500m", "limit": "2"},
    "memory": {"request": "1Gi", "limit": "2Gi"},
    "user": 10001,
    "timeout": "30m",
    "environment": [{"secret": "tokka-s3", "keys": ["AWS_ACCESS_KEY_ID"]}],
}


def project(tmp_path, **changes):
    tree = {"service_account": "tokka-pipeline", "every_step": EVERY, "steps": {}, **changes}
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(yaml.safe_dump(tree))
    return tmp_path


def test_a_step_has_its_own_over_those_of_every_step_and_the_profile_over_both(tmp_path):
    own = {"timeout": "2h", "environment": [{"config_map": "tokka", "keys": ["MLFLOW_TRACKING_URI"]}]}
    gpu = {"finetune": {"gpu": {"count": 2}, "memory": {"limit": "24Gi"}}}
    root = project(tmp_path, steps={"finetune": own}, profiles={"gpu": gpu})
    plain, found = load(root, STEPS)["finetune"], load(root, STEPS, "gpu")["finetune"]
    assert (plain.timeout, plain.gpu, plain.memory.limit) == ("2h", None, "2Gi")
    assert (found.gpu.count, found.memory.request, found.memory.limit) == (2, "1Gi", "24Gi")
    assert [one.secret or one.config_map for one in found.environment] == ["tokka-s3", "tokka"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": {"finetun": {}}}, "steps.finetun is no step"),
        ({"steps": {"finetune": {"memmory": {}}}}, "unknown key 'memmory'; did you mean 'memory'"),
        ({"steps": {"finetune": {"memory": {"limit": "lots"}}}}, "finetune.memory.limit = 'lots'"),
        ({"steps": {"finetune": {"user": 0}}}, "finetune.user = 0"),
        ({"steps": {"finetune": {"timeout": 90}}}, "finetune.timeout = 90"),
        ({"steps": {"register": {"volumes": [{"path": "/x"}]}}}, "name a secret or a config_map"),
        ({"service_account": None}, "service_account"),
        ({"every_stepp": {}}, "unknown key 'every_stepp'"),
    ],
)
def test_a_fault_names_its_place(tmp_path, changes, words):
    with pytest.raises(UsageError) as refused:
        load(project(tmp_path, **changes), STEPS)
    assert words in refused.value.message
    assert str(FILE) in refused.value.message


def test_a_profile_that_does_not_exist_is_named_with_those_that_do(tmp_path):
    with pytest.raises(UsageError, match="no profile 'gpuu'") as refused:
        load(project(tmp_path, profiles={"gpu": {}}), STEPS, "gpuu")
    assert "gpu" in refused.value.hint
    with pytest.raises(UsageError, match="no profile 'tpu'"):
        compile_pipelines(ROOT, tmp_path / "ir", profile="tpu")


def test_durations():
    assert [seconds(text) for text in ("20s", "5m", "12h")] == [20, 300, 43200]


def test_no_step_takes_a_variable_that_kubeflows_mlflow_plugin_sets():
    """A variable with a value and a source is refused by Kubernetes, and no pod starts."""
    injected = {"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE"}
    placements = load(ROOT, components.STEPS, "")
    taken = {key for one in placements.values() for source in one.environment for key in source.keys}
    assert taken & injected == set()


def test_preflight_can_wait_for_a_whole_run_of_the_same_key():
    """A second run shares what the first makes, however long that takes."""
    found = load(ROOT, components.STEPS)
    beside = {"preflight", "close", "refuse", "complete_evaluation", "tune"}
    steps = [step for step in components.STEPS if step not in beside]
    assert seconds(found["preflight"].timeout) >= sum(seconds(found[step].timeout) for step in steps)
