"""The API server takes every environment, and a restricted namespace nothing less confined."""

import pytest

from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.moving import moved
from tests.manifests.objects import NAMES, OVERLAYS, Object, build

IMAGE = "registry.invalid/nothing:1"


@pytest.mark.parametrize("name", NAMES)
def test_admission_takes_an_environment_without_a_warning(cluster: Cluster, spaces: dict[str, str], name: str):
    objects = moved(build(OVERLAYS / name), spaces)
    said = cluster.apply(objects, "--dry-run=server")
    taken = [line for line in said.splitlines() if line.endswith("(server dry run)")]
    assert len(taken) == len(objects) and "Warning" not in said


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({}, "allowPrivilegeEscalation != false"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"volumeMounts": [{"name": "host", "mountPath": "/host"}]}, 'volume "host"'),
    ],
)
def test_a_restricted_namespace_refuses_a_bad_pod(cluster: Cluster, spaces: dict[str, str], fault: Object, words: str):
    with pytest.raises(Refused, match="violates PodSecurity") as refusal:
        cluster.apply([bad_pod(spaces["tokka"], fault)])
    assert words in str(refusal.value)
    assert cluster.get(spaces["tokka"], "pods") == []


def test_kubeflows_namespace_refuses_a_mount_of_the_node(cluster: Cluster, spaces: dict[str, str]):
    with pytest.raises(Refused, match=r"violates PodSecurity \"baseline.*hostPath"):
        cluster.apply([bad_pod(spaces["kubeflow"], {"volumeMounts": [{"name": "host", "mountPath": "/host"}]})])


def bad_pod(namespace: str, fault: Object) -> Object:
    volumes = [{"name": "host", "hostPath": {"path": "/"}}] if "volumeMounts" in fault else []
    container = {"name": "bad", "image": IMAGE} | fault
    meta = {"name": "bad", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], "volumes": volumes},
    }
