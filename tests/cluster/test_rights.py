"""The service accounts may do what is needed and nothing else: SubjectAccessReviews both ways."""

import pytest

from tests.cluster.kubectl import Cluster, Right
from tests.cluster.moving import moved
from tests.manifests.objects import OVERLAYS, build

# What KFP's driver and launcher and Argo's executor ask for with the account of the step.
NEEDED = [
    Right("get", "configmaps", "kfp-launcher"),
    Right("get", "secrets", "mlpipeline-minio-artifact"),
    Right("get", "pods", "any"),
    Right("create", "workflowtaskresults.argoproj.io"),
    Right("patch", "workflowtaskresults.argoproj.io", "any"),
]
OTHER = [
    Right("get", "secrets", "tokka-signing"),
    Right("get", "secrets", "tokka-database"),
    Right("get", "secrets", "tokka-mlflow"),
    Right("list", "secrets"),
    Right("update", "configmaps", "tokka-verify"),
    Right("list", "configmaps"),
    Right("create", "pods"),
    Right("delete", "pods", "any"),
    Right("create", "pods/exec", "any"),
    Right("get", "pods/log", "any"),
    Right("create", "jobs.batch"),
    Right("patch", "workflows.argoproj.io", "any"),
    Right("get", "inferenceservices.serving.kserve.io", "any"),
    Right("create", "serviceaccounts/token", "tokka-pipeline"),
    Right("create", "rolebindings.rbac.authorization.k8s.io"),
]


@pytest.fixture(scope="module", autouse=True)
def applied(cluster: Cluster, spaces: dict[str, str]) -> None:
    kinds = {"ServiceAccount", "Role", "RoleBinding"}
    cluster.apply([one for one in moved(build(OVERLAYS / "production"), spaces) if one["kind"] in kinds])


def test_a_step_may_what_it_needs_and_nothing_else(cluster: Cluster, spaces: dict[str, str]):
    account = f"{spaces['kubeflow']}:tokka-pipeline"
    assert cluster.allowed(account, spaces["kubeflow"], NEEDED + OTHER) == NEEDED
    assert cluster.allowed(account, spaces["tokka"], NEEDED + OTHER) == []


@pytest.mark.parametrize("account", ["mlflow", "retrain"])
def test_who_needs_no_api_may_nothing(cluster: Cluster, spaces: dict[str, str], account: str):
    for space in spaces.values():
        assert cluster.allowed(f"{spaces['tokka']}:{account}", space, NEEDED + OTHER) == []


def test_a_right_that_was_given_is_seen(cluster: Cluster, spaces: dict[str, str]):
    """The reviews see what is there: one right too many comes back as that one."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "wide"}
    meta = {"name": "wide", "namespace": spaces["tokka"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": meta}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    subjects = [{"kind": "ServiceAccount", "name": "retrain", "namespace": spaces["tokka"]}]
    wide = [
        rbac | {"kind": "Role", "rules": rules},
        rbac | {"kind": "RoleBinding", "roleRef": role, "subjects": subjects},
    ]
    cluster.apply(wide)
    found = cluster.allowed(f"{spaces['tokka']}:retrain", spaces["tokka"], OTHER)
    cluster.run("delete", "role,rolebinding", "wide", "-n", spaces["tokka"])
    assert found == [Right("list", "secrets")]
