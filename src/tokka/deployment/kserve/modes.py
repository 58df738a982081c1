"""Which of KServe's modes can split traffic on this cluster, by what the cluster itself says. Pure.

An API server drops fields that it does not know without a word, and KServe ignores `canaryTrafficPercent` in Standard
mode: so it is asked before anything is created.
"""

import json
from collections.abc import Collection
from typing import Literal, NamedTuple

from tokka.errors import Refused
from tokka.kubernetes.api import CONFIG_MAPS, DEFINITIONS, Api, Denied, Kind, Object

Mode = Literal["Standard", "Knative"]
DEFINITION = "inferenceservices.serving.kserve.io"
CONFIG, CONFIG_NAMESPACE = "inferenceservice-config", "kserve"
GATEWAY_API, KNATIVE = "gateway.networking.k8s.io", "serving.knative.dev"


class Facts(NamedTuple):
    """What decides; None for what this account may not see.

    canary: whether `spec.canary` exists. gateway: whether KServe routes by the Gateway API. default: its default mode.
    """

    installed: bool
    canary: bool
    gateway: bool | None
    default: str | None
    groups: Collection[str]


def look(api: Api) -> Facts:
    """Ask a cluster; raises as `Api` does."""
    definition = _seen(api, DEFINITIONS, DEFINITION)
    groups = api.groups()
    config = _seen(api, CONFIG_MAPS, CONFIG, CONFIG_NAMESPACE)
    data = (config or {}).get("data") or {}
    ingress, deploy = (_section(data, name) for name in ("ingress", "deploy"))
    gateway = None if config is None else ingress.get("enableGatewayApi") is True
    installed = definition is not None or "serving.kserve.io" in groups
    # Without the right to read the definition the answer to the first canary tells: target.py reads it back.
    canary = installed if definition is None else _has_canary(definition)
    return Facts(installed, canary, gateway, deploy.get("defaultDeploymentMode"), groups)


def choose(facts: Facts) -> Mode:
    """The cluster's own default where that can split, else the other one; Refused, with what to change, for neither."""
    if not facts.installed:
        raise Refused("this cluster has no KServe: it knows no InferenceService", "install KServe, newer than 0.20.0")
    gateway = GATEWAY_API in facts.groups and facts.gateway is not False
    can: dict[Mode, bool] = {"Standard": facts.canary and gateway, "Knative": KNATIVE in facts.groups}
    named: Mode = "Knative" if facts.default in ("Knative", "Serverless") else "Standard"
    other: Mode = "Standard" if named == "Knative" else "Knative"
    for mode in (named, other):
        if can[mode]:
            return mode
    raise Refused(f"KServe cannot split traffic on this cluster: {'; '.join(_reasons(facts))}", _hint(facts))


def _reasons(facts: Facts) -> list[str]:
    found = {
        "its InferenceService has no spec.canary, so it is older than 0.20": not facts.canary,
        f"the Gateway API ({GATEWAY_API}) is not installed": GATEWAY_API not in facts.groups,
        "ingress.enableGatewayApi is not true in ConfigMap kserve/inferenceservice-config": facts.gateway is False,
        f"Knative ({KNATIVE}) is not installed": KNATIVE not in facts.groups,
    }
    return [words for words, is_so in found.items() if is_so]


def _hint(facts: Facts) -> str:
    first = "upgrade KServe to a version after 0.20.0, " if not facts.canary else ""
    return f"{first}install the Gateway API and set enableGatewayApi, or install Knative Serving"


def _seen(api: Api, kind: Kind, name: str, namespace: str = "") -> Object | None:
    try:
        return api.get(kind, name, namespace)
    except Denied:
        return None


def _section(data: Object, name: str) -> Object:
    """KServe keeps each section as JSON in a string."""
    try:
        found = json.loads(data.get(name) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _has_canary(definition: Object) -> bool:
    """Whether the served version of the definition knows `spec.canary`."""
    for version in definition["spec"].get("versions", ()):
        if version.get("name") == "v1beta1":
            schema = version.get("schema", {}).get("openAPIV3Schema", {})
            spec = schema.get("properties", {}).get("spec", {})
            return "canary" in spec.get("properties", {}) or bool(spec.get("x-kubernetes-preserve-unknown-fields"))
    return False
