"""The component that drives rollouts on KServe: valid, confined, and with rights on InferenceServices alone."""

from pathlib import Path

import kubernetes_validate
import pytest

from tests.manifests.objects import OVERLAYS, Object, build, of_kind
from tests.manifests.rules import POD_RULES, least_privilege, named_namespace, no_credential_in_text
from tests.manifests.test_overlays import KUBERNETES


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    folder = tmp_path_factory.mktemp("kserve")
    component = Path("infra/kubernetes/components/kserve").absolute()
    relative = Path("../" * (len(folder.parts) - 1)) / component.relative_to("/")
    (folder / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [{relative}]\n"
        "images: [{name: tokka/pipeline, newTag: dev}]\n"
    )
    return build(folder)


def test_it_is_valid_and_keeps_the_rules(objects: list[Object]):
    assert [kubernetes_validate.validate(one, KUBERNETES, strict=True) for one in objects] == [KUBERNETES] * len(
        objects
    )
    rules = [*POD_RULES, least_privilege, no_credential_in_text, named_namespace]
    assert [finding for rule in rules for finding in rule(objects)] == []


def test_only_the_reconciler_may_change_inference_services(objects: list[Object]):
    (role,) = of_kind(objects, "Role")
    rights = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert {resource for resource, _ in rights} == {"inferenceservices", "pods", "events"}
    for name in ("dev", "staging", "production"):
        roles = of_kind(build(OVERLAYS / name), "Role")
        assert not any("inferenceservices" in rule["resources"] for one in roles for rule in one["rules"])


def test_two_replicas_that_are_never_gone_together(objects: list[Object]):
    (deployment,), (budget,) = of_kind(objects, "Deployment"), of_kind(objects, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2 and budget["spec"]["minAvailable"] == 1
