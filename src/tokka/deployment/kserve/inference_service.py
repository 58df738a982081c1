"""What a state of the record asks of an InferenceService: plain data, the same in every mode.

Plain dictionaries, and not the models of the package `kserve`: importing these takes 1.3 s and 126 MB, and brings a
whole model server along. The tests read each object that is made here through those models.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tokka.deployment.record.state import Revision, State
from tokka.errors import Refused
from tokka.kubernetes.api import Object
from tokka.registry.model_uri import ModelUri

MODE = "serving.kserve.io/deploymentMode"
GENERATION, STABLE = "tokka.dev/generation", "tokka.dev/stable"
OWNER = "serving.kserve.io/inferenceservice"
MANAGER = {"app.kubernetes.io/managed-by": "tokka"}
FORMAT = "tokka"
# Longer than a pod's preStop and the longest answer together.
GRACE_S = 110
# KServe copies an InferenceService's annotations into its pods, and what changes there makes every pod anew. A
# predictor's own come before them, and stay as they are.
SAME_FOR_EVERY_POD = {GENERATION: "on-the-inferenceservice", STABLE: "on-the-inferenceservice"}
# What makes an autoscaler: KServe refuses it in a canary.
SCALING = ("maxReplicas", "scaleMetric", "scaleTarget")
ZONE, NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


class Wanted(NamedTuple):
    """Who serves, who stands beside with which part of the traffic in percent, and how many pods each has.

    `maximum`: to so many pods the one that serves grows by its load.
    """

    endpoint: str
    generation: int
    stable: Revision | None
    side: Revision | None
    percent: int
    replicas: int
    maximum: int

    def uri(self, revision: Revision) -> str:
        """The address of a revision's model."""
        return str(ModelUri(self.endpoint, revision.version, revision.digest))


def wanted(state: State, replicas: int, maximum: int = 0) -> Wanted:
    """What the record asks for; Refused for a share that is no whole percent.

    Without a champion the challenger is the only one there is. During a watch the previous champion stays beside the
    new one without traffic, so that going back takes no start of a pod.
    """
    percent, maximum = whole_percent(state.share), max(maximum, replicas)
    side = state.challenger or (state.previous if state.phase == "watch" else None)
    if state.champion is None:
        return Wanted(state.endpoint, state.generation, state.challenger, None, 0, replicas, maximum)
    return Wanted(state.endpoint, state.generation, state.champion, side, percent, replicas, maximum)


def whole_percent(share: float) -> int:
    """A share as KServe takes it; Refused when it is no whole percent, which KServe would not split at."""
    percent = round(share * 100)
    if abs(percent - share * 100) > 1e-6:
        raise Refused(f"a share of {share:.2%} cannot be had: KServe splits by whole percents", "change canary.steps")
    return percent


def require_name(endpoint: str) -> None:
    """Refused unless an endpoint's name can be that of a Service."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", endpoint):
        raise Refused(
            f"registry.model is {endpoint!r}, which no InferenceService can be called",
            "use at most 40 lower-case letters, digits and dashes, a letter first",
        )


def predictor(wanted: Wanted, revision: Revision) -> Object:
    """The predictor of a revision; the runtime `tokka` gives it image, command, probes and resources.

    A change of it puts a new pod beside the old ones before one of these goes; pods of a version spread over zones and
    nodes.
    """
    uri = wanted.uri(revision)
    spread = {
        "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": {OWNER: wanted.endpoint}},
    }  # fmt: skip
    return {
        "name": f"v{revision.version}",
        "annotations": dict(SAME_FOR_EVERY_POD),
        "minReplicas": wanted.replicas,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "topologySpreadConstraints": [{**spread, "topologyKey": key} for key in (ZONE, NODE)],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "model": {
            "modelFormat": {"name": FORMAT}, "protocolVersion": "v2", "storageUri": uri,
            "env": [{"name": "TOKKA_MODEL_URI", "value": uri}],
        },
    }  # fmt: skip


def whole(wanted: Wanted, predictor: Object, mode: str) -> Object:
    """A new InferenceService with this predictor alone."""
    annotations = {MODE: mode, GENERATION: str(wanted.generation)}
    metadata = {"name": wanted.endpoint, "labels": dict(MANAGER), "annotations": annotations}
    kind = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    return {**kind, "metadata": metadata, "spec": {"predictor": predictor}}


def storage_uri(found: Object) -> str:
    """The model's address in a predictor; empty when it names none."""
    return str(found.get("model", {}).get("storageUri", ""))


def is_observed(service: Object) -> bool:
    """Whether the controller has seen the object's newest form; for Knative alone, see `standard.is_seen`."""
    return int(service.get("status", {}).get("observedGeneration", -1)) >= int(service["metadata"]["generation"])


def condition(service: Object, name: str) -> bool:
    """Whether a condition of the status is true."""
    found: Sequence[Object] = service.get("status", {}).get("conditions") or ()
    return any(one.get("type") == name and one.get("status") == "True" for one in found)


def generation_of(service: Object) -> int:
    """The generation of the record that was written there last; -1 for none."""
    found = str((service["metadata"].get("annotations") or {}).get(GENERATION, ""))
    return int(found) if found.isdecimal() else -1


def differences(asked: object, found: object, path: str = "") -> list[str]:
    """Where `found` does not say what is asked, as paths; what KServe or others added to it is no difference."""
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        parts = [differences(value, found.get(name), f"{path}.{name}") for name, value in asked.items()]
        return [one for part in parts for one in part]
    if isinstance(asked, list) and isinstance(found, list) and len(asked) == len(found):
        pairs = enumerate(zip(asked, found, strict=True))
        return [one for number, pair in pairs for one in differences(*pair, f"{path}[{number}]")]
    return [] if asked == found else [path.lstrip(".")]


def merge_patch(old: Object, new: Object) -> Object:
    """What, merged into `old` (RFC 7386), makes it `new`."""
    patch: Object = dict.fromkeys(old.keys() - new.keys())
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif before != value:
            patch[name] = value
    return patch
