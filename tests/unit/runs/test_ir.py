"""What a compiled pipeline says of itself."""

import pytest

from tokka.runs import ir
from tokka.runs.ir import Step

GATE = {"componentRef": {"name": "comp-gate"}, "retryPolicy": {}, "taskInfo": {"name": "refused by the gate"}}
SPEC = {
    "pipelineInfo": {"name": "specialise"},
    "root": {
        "inputDefinitions": {"parameters": {"params": {"parameterType": "STRUCT"}}},
        "dag": {
            "tasks": {
                "preflight": {"componentRef": {"name": "comp-preflight"}},
                "condition-1": {"componentRef": {"name": "comp-condition-1"}},
            }
        },
    },
    "components": {
        "comp-preflight": {"executorLabel": "exec-preflight"},
        "comp-condition-1": {"dag": {"tasks": {"gate": GATE}}},
        "comp-gate": {"executorLabel": "exec-gate"},
    },
}
PLATFORM = {
    "platforms": {
        "kubernetes": {"deploymentSpec": {"executors": {"exec-gate": {"podMetadata": {"labels": {"a": "b"}}}}}}
    }
}


@pytest.mark.parametrize("document", [SPEC, {"pipeline_spec": SPEC}, {"pipeline_spec": SPEC, "platform_spec": {}}])
def test_its_name_parameters_and_steps(document):
    assert ir.name(document) == "specialise"
    assert list(ir.parameters(document)) == ["params"]
    assert ir.steps(document) == [
        Step("preflight", "preflight", "root.preflight", "system-container-impl"),
        Step("refused by the gate", "gate", "root.condition-1.gate", "retry-system-container-impl"),
    ]


def test_labels_of_pods_are_in_the_name_of_their_template():
    found = {step.key: step.template for step in ir.steps({"pipeline_spec": SPEC, "platform_spec": PLATFORM})}
    assert found["gate"] == "metadata-0-1-retry-system-container-impl"


def test_a_document_of_nothing_has_nothing():
    assert (ir.name({}), ir.parameters({}), ir.steps({})) == ("", {}, [])


def test_nodes_have_the_names_that_argo_gave_them():
    """Ids of a run on a real Kubeflow Pipelines 2.17.0."""
    ids = {"specialise-5dvzm-526011553", "specialise-5dvzm-4060508654", "specialise-5dvzm-1574809373"}
    labels = ["specialise-5dvzm", "specialise-5dvzm(0)", "root-driver", "root-driver(0)"]
    assert sorted(ir.node_names("specialise-5dvzm", ids, labels).values()) == [
        "specialise-5dvzm(0)",
        "specialise-5dvzm(0).root-driver",
        "specialise-5dvzm(0).root-driver(0)",
    ]


def test_the_newest_attempt_comes_first():
    step = Step("gate", "gate", "root.gate", "system-container-impl")
    nodes = [f"w(0).root(0).gate(0).executor{attempt}" for attempt in ("", "(0)", "(10)", "(2)")]
    found = ir.pod_names(step, "w", [*nodes, "w(0).root(0).other(0).executor(3)"])
    assert len(found) == 3
    assert found[0] == ir.pod_names(step, "w", nodes[2:3])[0]


def test_without_attempts_the_pod_is_the_node():
    step = Step("gate", "gate", "root.gate", "retry-system-container-impl")
    (name,) = ir.pod_names(step, "w", ["w.root.gate", "w.root.gate.executor"])
    assert name.startswith("w-retry-system-container-impl-")


def test_no_pod_has_no_name():
    assert ir.node_names("", set(), []) == {}
    assert ir.pod_names(Step("gate", "gate", "root.gate", "x"), "w", []) == []
