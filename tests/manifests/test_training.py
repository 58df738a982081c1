"""The component for trainings on several machines: known to Trainer, confined, with rights on TrainJobs alone."""

from pathlib import Path

import kubernetes_validate
import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime

from tests.manifests.objects import Object, build, of_kind
from tests.manifests.pod_rules import no_token
from tests.manifests.rules import POD_RULES, least_privilege, named_namespace, no_credential_in_text
from tests.manifests.test_overlays import KUBERNETES
from tokka.kubernetes.train_job import EXIT_REFUSED, NODE, RUNTIME, VERBS


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    folder = tmp_path_factory.mktemp("training")
    component = Path("infra/kubernetes/components/training").absolute()
    relative = Path("../" * (len(folder.parts) - 1)) / component.relative_to("/")
    (folder / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [{relative}]\n"
        "images: [{name: tokka/pipeline, newTag: dev}]\n"
    )
    return build(folder)


@pytest.fixture
def runtime(objects: list[Object]) -> Object:
    (found,) = of_kind(objects, "TrainingRuntime")
    return found


@pytest.fixture
def job(runtime: Object) -> Object:
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == NODE
    meta = {"name": "node", "namespace": "kubeflow"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": replicated["template"]["spec"]}


def test_kubernetes_and_trainer_know_what_is_said(objects: list[Object], runtime: Object, job: Object) -> None:
    assert TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() == runtime
    own = [one for one in objects if one is not runtime and one["kind"] != "TrainingRuntime"]
    for one in [*own, job]:
        assert kubernetes_validate.validate(one, KUBERNETES, strict=True) == KUBERNETES
    assert runtime["metadata"] == runtime["metadata"] | {"name": RUNTIME, "namespace": "kubeflow"}


def test_it_keeps_the_rules(objects: list[Object], job: Object) -> None:
    rules = [*POD_RULES, no_token, least_privilege, no_credential_in_text, named_namespace]
    assert [finding for rule in rules for finding in rule([*objects, job])] == []


def test_a_step_may_make_train_jobs_and_a_node_nothing(objects: list[Object], job: Object) -> None:
    (role,), (binding,) = of_kind(objects, "Role"), of_kind(objects, "RoleBinding")
    rights = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert rights == {("pods", "list"), ("trainingruntimes", "get"), *(("trainjobs", verb) for verb in VERBS)}
    assert [one["name"] for one in binding["subjects"]] == ["tokka-pipeline"]
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "tokka-training-node"


def test_what_would_be_refused_again_ends_all_of_it(runtime: Object, job: Object) -> None:
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [EXIT_REFUSED]
    policy = runtime["spec"]["template"]["spec"]["failurePolicy"]
    assert policy["rules"][0]["action"] == "FailJobSet" and policy["maxRestarts"] > 0
    assert job["spec"]["backoffLimit"] == 0 and job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_nodes_reach_each_other_and_nobody_else_reaches_them(objects: list[Object], job: Object) -> None:
    (policy,) = of_kind(objects, "NetworkPolicy")
    labels, nodes = job["spec"]["template"]["metadata"]["labels"], policy["spec"]["podSelector"]
    assert nodes["matchLabels"].items() <= labels.items()
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": nodes}]}]
    assert {"to": [{"podSelector": nodes}]} in policy["spec"]["egress"]
