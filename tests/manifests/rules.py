"""What a whole environment must be: nothing dangling, nothing secret in the open, nothing allowed that has no use.

Each rule is a pure function from the objects to its findings, each a line that names the object and the rule.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.manifests import pod_rules
from tests.manifests.objects import Object, of_kind, pods, title
from tests.manifests.references import references
from tests.manifests.selectors import network_policies, services

CREDENTIAL = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|PRIVATE_KEY)(?!.*_FILE$)")
URL_WITH_PASSWORD = re.compile(r"\w://[^/\s:@]+:[^/\s@]+@")


def restricted(objects: list[Object]) -> Iterator[str]:
    """Our own namespaces take nothing but confined pods."""
    for one in of_kind(objects, "Namespace"):
        if one["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{title(one)}: must have the label pod-security.kubernetes.io/enforce: restricted"


def closed(objects: list[Object]) -> Iterator[str]:
    """Each of our namespaces refuses what no policy names, in both directions."""
    whole = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    shut = {one["metadata"]["namespace"] for one in of_kind(objects, "NetworkPolicy") if one["spec"] == whole}
    for one in of_kind(objects, "Namespace"):
        if one["metadata"]["name"] not in shut:
            yield f"{title(one)}: must have a NetworkPolicy that denies everything by default"


def least_privilege(objects: list[Object]) -> Iterator[str]:
    """Rights in one namespace, by name; no wildcard; of Secrets only named ones; no shell in a pod."""
    for one in of_kind(objects, "ClusterRole", "ClusterRoleBinding"):
        yield f"{title(one)}: must be a Role in one namespace"
    for one in of_kind(objects, "Role"):
        for rule in one["rules"]:
            parts = {*rule.get("apiGroups", []), *rule.get("resources", []), *rule["verbs"]}
            if "*" in parts:
                yield f"{title(one)}: must name what it allows, has * in {rule}"
            if {"secrets", "configmaps"} & parts and not rule.get("resourceNames"):
                yield f"{title(one)}: must name the Secrets and ConfigMaps that may be read (resourceNames)"
            if {"pods/exec", "pods/attach", "impersonate", "bind", "escalate"} & parts:
                yield f"{title(one)}: must not allow {sorted(parts)}"


def no_open_secret(objects: list[Object]) -> Iterator[str]:
    """Outside of development a credential is a reference to a Secret that is made elsewhere."""
    for one in of_kind(objects, "Secret"):
        yield f"{title(one)}: a Secret must not stand in the manifests; it is made in the cluster"
    yield from no_credential_in_text(objects)


def no_credential_in_text(objects: list[Object]) -> Iterator[str]:
    """No literal credential in a ConfigMap, an environment variable or an argument."""
    for one in objects:
        if one["kind"] == "Secret":
            continue
        for name, text in _named_texts(one):
            if URL_WITH_PASSWORD.search(text):
                yield f"{title(one)}: {name} must not hold a password in a URL; take it from a Secret"
            elif CREDENTIAL.search(name) and not text.startswith("/"):
                yield f"{title(one)}: {name} must come from a Secret, not as a literal"


def named_namespace(objects: list[Object]) -> Iterator[str]:
    """Nothing lands in whatever namespace happens to be the current one."""
    for one in objects:
        if one["kind"] not in {"Namespace", "ClusterRole", "ClusterRoleBinding"} and "namespace" not in one["metadata"]:
            yield f"{title(one)}: must name its namespace"


def _named_texts(one: Object) -> Iterator[tuple[str, str]]:
    """Settings by their names, and every other text of a container's command."""
    yield from one.get("data", {}).items()
    for pod in pods([one]):
        for container in [*pod.spec.get("initContainers", []), *pod.spec["containers"]]:
            yield from ((pair["name"], str(pair["value"])) for pair in container.get("env", []) if "value" in pair)
            yield from (("command", text) for text in _texts(container.get("command", []) + container.get("args", [])))


def _texts(values: list[Any]) -> Iterator[str]:
    return (str(value) for value in values)


POD_RULES = [
    pod_rules.non_root,
    pod_rules.read_only_root,
    pod_rules.no_escalation,
    pod_rules.no_capabilities,
    pod_rules.default_seccomp,
    pod_rules.nothing_of_the_host,
    pod_rules.bounded,
    pod_rules.no_token,
    pod_rules.probed,
    pod_rules.tagged,
]
RULES = [
    *POD_RULES,
    restricted,
    closed,
    least_privilege,
    no_credential_in_text,
    named_namespace,
    services,
    network_policies,
    references,
]
# Where others' data is.
STRICT_RULES = [*RULES, pod_rules.by_digest, no_open_secret]
