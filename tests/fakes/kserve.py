"""A cluster with KServe in Standard mode, as the real controller (0.20, Gateway API) was seen to behave.

What it refuses, this one refuses; and it counts what would have cost requests: `lost`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kubernetes_api import FakeApi
from tokka.deployment.kserve.inference_service import OWNER
from tokka.deployment.kserve.predictors import SOURCE, Outcome, Pod
from tokka.deployment.record.target import Answer, Question
from tokka.kubernetes.api import CONFIG_MAPS, DEFINITIONS, INFERENCE_SERVICES, Invalid, Object
from tokka.registry.model_uri import ModelUri

AUTOSCALING = {"maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling"}
MODE = "serving.kserve.io/deploymentMode"


@dataclass
class FakeKServe:
    """`ready` says whether the pods of a digest come up; `served` has the address of each stable predictor in turn.

    `last_words` are, by digest, those of containers that end. `replicas` is how many pods the one that serves has at
    least: the controller takes those of ready canaries from its `minReplicas`. `anew` are predictors
    whose pods were all replaced.
    """

    api: FakeApi
    ready: Callable[[str], bool] = lambda digest: True
    lost: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    last_words: dict[str, str] = field(default_factory=dict)
    replicas: int = 0
    anew: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api.admit, self.api.changed = self._admit, self._changed
        schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": {"canary": {}}}}}}
        self.api.objects[DEFINITIONS]["inferenceservices.serving.kserve.io"] = {
            "metadata": {"name": "x"}, "spec": {"versions": [{"name": "v1beta1", "schema": schema}]},
        }  # fmt: skip
        config = {"ingress": '{"enableGatewayApi": true}', "deploy": '{"defaultDeploymentMode": "Standard"}'}
        self.api.objects[CONFIG_MAPS]["inferenceservice-config"] = {"metadata": {"name": "x"}, "data": config}

    @property
    def service(self) -> Object | None:
        return next(iter(self.api.objects[INFERENCE_SERVICES].values()), None)

    def weights(self) -> dict[str, int]:
        """Address to percent, as the route really splits."""
        if self.service is None:
            return {}
        found = [(one, self.ready(digest(one["predictor"]))) for one in self.service["spec"].get("canary") or ()]
        beside = {uri(one["predictor"]): one.get("trafficPercent", 0) if ready else 0 for one, ready in found}
        return {uri(self.service["spec"]["predictor"]): 100 - sum(beside.values()), **beside}

    def run(self) -> None:
        """The controller and the kubelet: status and pods follow the spec."""
        self.api.pods = []
        if (service := self.service) is None:
            return
        spec, predictors = service["spec"], [one["predictor"] for one in service["spec"].get("canary") or ()]
        taken = sum(one["minReplicas"] for one in predictors if self.ready(digest(one)))
        self.replicas = max(spec["predictor"]["minReplicas"] - taken, 1)
        for one, replicas in [(spec["predictor"], self.replicas), *((one, one["minReplicas"]) for one in predictors)]:
            self.api.pods += [self._pod(service, one, number) for number in range(replicas)]
        statuses = [
            {"name": one["predictor"]["name"], "ready": self.ready(digest(one["predictor"])),
             "trafficPercent": one.get("trafficPercent", 0)}
            for one in spec.get("canary") or ()
        ]  # fmt: skip
        up = [{"type": "Ready", "status": str(self.ready(digest(spec["predictor"])))}]
        address = f"http://{service['metadata']['name']}-{spec['predictor']['name']}-predictor.space.svc.cluster.local"
        service["status"] = {
            "observedGeneration": 1, "canaryStatuses": statuses, "conditions": up, "address": {"url": address},
        }  # fmt: skip

    def _pod(self, service: Object, predictor: Object, number: int) -> Object:
        name = f"{service['metadata']['name']}-{predictor['name']}-{number}"
        meta = {"name": name, "uid": name, "annotations": {SOURCE: uri(predictor)}}
        labels = {OWNER: service["metadata"]["name"]}
        ready = [{"type": "Ready", "status": str(self.ready(digest(predictor)))}]
        status: Object = {"podIP": name, "conditions": ready}
        if words := self.last_words.get(digest(predictor)):
            ended = {"terminated": {"exitCode": 3, "message": words}}
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["containerStatuses"] = [{"name": "kserve-container", "state": waits, "lastState": ended}]
        return {"metadata": {**meta, "labels": labels}, "status": status}

    def _admit(self, old: Object | None, new: Object) -> None:
        spec, canary = new["spec"], new["spec"].get("canary") or []
        if canary and (new["metadata"].get("annotations") or {}).get(MODE) != "Standard":
            raise Invalid("canary needs the annotation deploymentMode: Standard on the InferenceService itself")
        for one in canary:
            predictor = one["predictor"]
            if not predictor.get("name"):
                raise Invalid("predictor.name is required for each canary")
            if AUTOSCALING & predictor.keys():
                raise Invalid("no autoscaling fields on a canary")
            if predictor.get("minReplicas", 1) > spec["predictor"].get("minReplicas", 1):
                raise Invalid("minReplicas of a canary exceeds the stable one's")
        if sum(one.get("trafficPercent", 0) for one in canary) > 100:
            raise Invalid("the canaries' trafficPercent exceeds 100")
        names = [one["spec"]["predictor"].get("name") for one in (old, new) if one]
        if old and names[0] != names[1] and uri(spec["predictor"]) == uri(old["spec"]["predictor"]):
            raise Invalid("the predictor's name differs and its model does not")

    def _changed(self, old: Object | None, new: Object | None) -> None:
        before = self._weights_of(old) if old else {}
        if new is not None and uri(new["spec"]["predictor"]) not in self.served[-1:]:
            self.served.append(uri(new["spec"]["predictor"]))
            promoted = [uri(one["predictor"]) for one in (old or {"spec": {}})["spec"].get("canary") or ()]
            if old and self.served[-1] not in promoted:
                self.lost.append(f"{self.served[-1]} took over without having been a canary")
        after = {uri(one["predictor"]) for one in (new or {"spec": {}})["spec"].get("canary") or ()}
        stable = uri(new["spec"]["predictor"]) if new else ""
        gone = {one for one, percent in before.items() if percent and one not in after and one != stable}
        # The predictor that a promotion replaces is drained by KServe itself.
        gone -= {uri(old["spec"]["predictor"])} if old and new else set()
        self.lost += [f"{one} was removed with traffic on it" for one in gone]
        templates = [_templates(one) if one else {} for one in (old, new)]
        kept = templates[0].keys() & templates[1].keys()
        self.anew += [one for one in kept if templates[0][one] != templates[1][one]]
        self.run()

    def _weights_of(self, service: Object) -> dict[str, int]:
        return {uri(one["predictor"]): one.get("trafficPercent", 0) for one in service["spec"].get("canary") or ()}


class FakePredictors:
    """Pods that answer as `infer` does, and have counted what `counted` says: model address to outcomes."""

    def __init__(self, infer: Callable[[str, Sequence[Question]], list[Answer]]) -> None:
        self._infer = infer
        self.counted: dict[str, Counter[Outcome]] = {}

    def ask(self, pod: Pod, rows: Sequence[Question]) -> list[Answer]:
        return self._infer(ModelUri.parse(pod.uri).digest, rows)

    def counts(self, pod: Pod, slow_ms: float) -> Counter[Outcome]:
        # One pod of each version stands for all of them.
        return Counter(self.counted.get(pod.uri, Counter())) if pod.name.endswith("-0") else Counter()


def _templates(service: Object) -> dict[str, Object]:
    """Predictor to what its pods are made of, the InferenceService's annotations among it."""
    annotations, spec = service["metadata"].get("annotations") or {}, service["spec"]
    found = [spec["predictor"], *(one["predictor"] for one in spec.get("canary") or ())]
    no_part = {*AUTOSCALING, "minReplicas", "deploymentStrategy"}
    made = [{name: value for name, value in one.items() if name not in no_part} for one in found]
    return {one["name"]: {**one, "annotations": {**annotations, **one.get("annotations", {})}} for one in made}


def uri(predictor: Any) -> str:
    return str(predictor["model"]["storageUri"])


def digest(predictor: Any) -> str:
    return ModelUri.parse(uri(predictor)).digest
