"""A manifest that breaks a rule is found by it: one planted for each, and the message names the object and the rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.manifests import pod_rules, rules
from tests.manifests.objects import Object, title
from tests.manifests.references import references
from tests.manifests.selectors import network_policies, services

MLFLOW, S3 = "Deployment tokka/mlflow", "StatefulSet tokka/s3"
POLICY, DENY = "NetworkPolicy tokka/mlflow", "NetworkPolicy tokka/default-deny"
SECRET: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "open", "namespace": "tokka"}}
NO_NAMESPACE: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lost"}}
CLUSTER_ROLE: Object = {"kind": "ClusterRole", "metadata": {"name": "all"}, "rules": []}


class Planted(NamedTuple):
    """A fault: the object that gets it, where in it, what stands there then; the rule, words of its message, and which
    object that names, where it is another one.
    """

    where: str
    path: list[Any]
    value: Any
    rule: Callable[..., Any]
    message: str
    named: str = ""


TEMPLATE = ["spec", "template", "spec"]
FIRST = [*TEMPLATE, "containers", 0]
CONTEXT = [*FIRST, "securityContext"]
PEERS = ["spec", "ingress", 0, "from"]
FAULTS = [
    Planted(MLFLOW, [*TEMPLATE, "securityContext", "runAsUser"], 0, pod_rules.non_root, "user that is not root"),
    Planted(MLFLOW, [*CONTEXT, "runAsNonRoot"], False, pod_rules.non_root, "user that is not root"),
    Planted(MLFLOW, [*CONTEXT, "readOnlyRootFilesystem"], False, pod_rules.read_only_root, "readOnlyRootFilesystem"),
    Planted(MLFLOW, [*CONTEXT, "allowPrivilegeEscalation"], True, pod_rules.no_escalation, "allowPrivilegeEscalation"),
    Planted(MLFLOW, [*CONTEXT, "capabilities"], {"drop": ["NET_RAW"]}, pod_rules.no_capabilities, "drop every"),
    Planted(MLFLOW, [*CONTEXT, "capabilities", "add"], ["CHOWN"], pod_rules.no_capabilities, "drop every"),
    Planted(MLFLOW, [*CONTEXT, "seccompProfile"], {"type": "Unconfined"}, pod_rules.default_seccomp, "RuntimeDefault"),
    Planted(MLFLOW, [*CONTEXT, "privileged"], True, pod_rules.nothing_of_the_host, "privileged"),
    Planted(MLFLOW, [*TEMPLATE, "hostNetwork"], True, pod_rules.nothing_of_the_host, "hostNetwork"),
    Planted(MLFLOW, [*TEMPLATE, "volumes", 0, "hostPath"], {"path": "/"}, pod_rules.nothing_of_the_host, "hostPath"),
    Planted(MLFLOW, [*FIRST, "ports", 0, "hostPort"], 80, pod_rules.nothing_of_the_host, "hostPort"),
    Planted(MLFLOW, [*FIRST, "resources"], {}, pod_rules.bounded, "requests.cpu, requests.memory, limits.memory"),
    Planted(MLFLOW, [*TEMPLATE, "volumes", 0, "emptyDir"], {}, pod_rules.bounded, "sizeLimit"),
    Planted(MLFLOW, [*TEMPLATE, "automountServiceAccountToken"], True, pod_rules.no_token, "automountServiceAccount"),
    Planted(MLFLOW, [*TEMPLATE, "serviceAccountName"], "default", pod_rules.no_token, "account of its own"),
    Planted(S3, [*FIRST, "readinessProbe"], None, pod_rules.probed, "readinessProbe"),
    Planted(S3, [*FIRST, "image"], "versity/versitygw:latest", pod_rules.tagged, "other than latest"),
    Planted(S3, [*FIRST, "image"], "a.b:5000/versitygw", pod_rules.tagged, "other than latest"),
    Planted(S3, [*FIRST, "image"], "versity/versitygw:v1", pod_rules.by_digest, "by its digest"),
    Planted("Namespace tokka", ["metadata", "labels"], {}, rules.restricted, "enforce: restricted"),
    Planted(
        "NetworkPolicy tokka/default-deny",
        ["spec", "policyTypes"],
        ["Ingress"],
        rules.closed,
        "denies",
        "Namespace tokka",
    ),
    Planted("Role kubeflow/tokka-pipeline", ["rules", 2, "verbs"], ["*"], rules.least_privilege, "has *"),
    Planted("Role kubeflow/tokka-pipeline", ["rules", 1, "resourceNames"], [], rules.least_privilege, "resourceNames"),
    Planted("Role kubeflow/tokka-pipeline", ["rules", 2, "resources"], ["pods/exec"], rules.least_privilege, "exec"),
    Planted(MLFLOW, [*FIRST, "env", 0], {"name": "S3_SECRET", "value": "a"}, rules.no_credential_in_text, "S3_SECRET"),
    Planted(MLFLOW, [*FIRST, "env", 0], {"name": "A", "value": "s://u:p@h"}, rules.no_credential_in_text, "in a URL"),
    Planted(MLFLOW, [*FIRST, "command"], ["x", "s://u:p@h"], rules.no_credential_in_text, "in a URL"),
    Planted("ConfigMap kubeflow/tokka", ["data", "TOKEN"], "a", rules.no_credential_in_text, "TOKEN"),
    Planted("Service tokka/mlflow", ["spec", "selector"], {"app": "ml"}, services, "matches no pod"),
    Planted("Service tokka/mlflow", ["spec", "ports", 0, "targetPort"], 5001, services, "5001"),
    Planted(POLICY, ["spec", "podSelector"], {"matchLabels": {"a": "b"}}, network_policies, "there are none"),
    Planted(
        POLICY, ["spec", "ingress", 0, "from", 0, "podSelector", "matchLabels"], {"a": "b"}, network_policies, "'a'"
    ),
    Planted(POLICY, PEERS, [], network_policies, "allows everybody"),
    Planted(POLICY, ["spec", "ingress", 0, "ports"], [], network_policies, "all of them"),
    Planted(POLICY, ["spec", "ingress", 0, "ports", 0, "port"], 5001, network_policies, "5001"),
    Planted(MLFLOW, [*FIRST, "envFrom", 0, "configMapRef", "name"], "gone", references, "tokka/gone, which is nowhere"),
    Planted(MLFLOW, [*FIRST, "envFrom", 0], {"secretRef": {"name": "gone"}}, references, "Secret tokka/gone"),
    Planted(MLFLOW, [*TEMPLATE, "serviceAccountName"], "gone", references, "ServiceAccount tokka/gone"),
    Planted(MLFLOW, [*TEMPLATE, "volumes", 0], {"name": "tmp", "secret": {"secretName": "gone"}}, references, "gone"),
    Planted("RoleBinding kubeflow/tokka-pipeline", ["subjects", 0, "name"], "gone", references, "kubeflow/gone"),
    Planted("RoleBinding kubeflow/tokka-pipeline", ["roleRef", "name"], "gone", references, "kubeflow/gone"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: f"{one.rule.__name__}: {one.message}")
def test_a_planted_fault_is_found(dev: list[Object], fault: Planted):
    before = [*fault.rule(dev)]
    put(next(one for one in dev if title(one) == fault.where), fault.path, fault.value)
    found = [line for line in fault.rule(dev) if line not in before]
    assert found and all(line.startswith(fault.named or fault.where) and fault.message in line for line in found)


@pytest.mark.parametrize(
    ("rule", "planted", "message"),
    [
        (rules.no_open_secret, SECRET, "Secret tokka/open: a Secret must not stand in the manifests"),
        (rules.named_namespace, NO_NAMESPACE, "ConfigMap lost: must name its namespace"),
        (rules.least_privilege, CLUSTER_ROLE, "ClusterRole all: must be a Role in one namespace"),
    ],
)
def test_a_planted_object_is_found(rule: Callable[..., Any], planted: Object, message: str):
    assert [line for line in rule([planted]) if line.startswith(message)]


def test_a_secret_without_the_key_that_is_asked_for_is_found(dev: list[Object]):
    secret = next(one for one in dev if title(one) == "Secret tokka/tokka-postgresql")
    secret["data"] = {"OTHER": ""}
    assert list(references(dev)) == [
        "StatefulSet tokka/postgresql container postgresql: Secret tokka/tokka-postgresql has no key POSTGRES_PASSWORD"
    ]


def test_every_rule_has_a_fault():
    planted = {one.rule for one in FAULTS} | {rules.no_open_secret, rules.named_namespace}
    assert set(rules.STRICT_RULES) - planted == set()


def put(one: Object, path: list[Any], value: Any) -> None:
    """Set what stands at `path`, or take it out for None."""
    *parents, last = path
    for key in parents:
        one = one[key]
    if value is None:
        del one[last]
    else:
        one[last] = value
