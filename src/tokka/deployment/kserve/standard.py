"""The next write that brings an InferenceService closer to the record, in Standard mode: `spec.canary[]`. Pure.

Nothing is ever taken from under a request: a challenger comes in without traffic, has its share while the champion
stands beside it, and goes only after its share was 0 for the drain time. A promotion is one write: `spec.predictor`
becomes the canary's predictor, so that KServe leaves the canary's pods as they are, and the replaced one becomes a
canary without traffic.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tokka.deployment.kserve.inference_service import (
    GENERATION,
    MANAGER,
    MODE,
    SCALING,
    Wanted,
    differences,
    merge_patch,
    predictor,
    storage_uri,
    whole,
)
from tokka.deployment.record.state import Revision
from tokka.kubernetes.api import Object

NAME = "Standard"
# Of the CPU that the runtime requests, over all pods of the one that serves.
CPU_PERCENT = 70


class Step(NamedTuple):
    """What to do now (`verb`, with `body`), why; and whether users are served as the record says already."""

    verb: Literal["", "create", "patch", "delete"]
    words: str
    in_force: bool = False
    body: Object | None = None


class Canary(NamedTuple):
    """One canary as the cluster has it: its model, the share it is to have and has, and whether it can answer."""

    uri: str
    asked: int
    routed: int
    ready: bool
    body: Object


def is_seen(service: Object) -> bool:
    """Whether the controller has carried out who is there with which share.

    Its `status.observedGeneration` is that of a Deployment. It writes `canaryStatuses` and the predictor's address in
    one write, after the route.
    """
    spec, status = service["spec"], service.get("status") or {}
    asked = {one["predictor"].get("name"): int(one.get("trafficPercent") or 0) for one in spec.get("canary") or ()}
    said = {one.get("name"): int(one.get("trafficPercent") or 0) for one in status.get("canaryStatuses") or ()}
    host = str((status.get("address") or {}).get("url", "")).rpartition("/")[2]
    stable = f"{service['metadata']['name']}-{spec['predictor'].get('name')}-predictor"
    return asked == said and host.partition(".")[0] == stable


def canaries(service: Object) -> list[Canary]:
    """The canaries of an InferenceService; one that is not ready gets no traffic, whatever was asked for."""
    seen, found = is_seen(service), service["spec"].get("canary") or []
    status = {one["name"]: one for one in service.get("status", {}).get("canaryStatuses") or () if "name" in one}
    return [_canary(one, status.get(one["predictor"].get("name", ""), {}), seen) for one in found]


def split_of(service: Object) -> dict[str, int]:
    """The percent of the traffic that the route gives to each model's address; a removed canary's goes on draining."""
    beside = {one.uri: one.routed for one in canaries(service)}
    return {storage_uri(service["spec"]["predictor"]): 100 - sum(beside.values()), **beside}


def next_step(service: Object | None, wanted: Wanted, drained: bool) -> Step:
    """Decide. `drained`: every canary that is to go has had no traffic for the drain time."""
    if wanted.stable is None:
        return Step("delete", "nothing is to serve", body=service) if service else Step("", "nothing serves", True)
    if service is None:
        made = whole(wanted, {**predictor(wanted, wanted.stable), **scaling(wanted, 0)}, NAME)
        return Step("create", f"version {wanted.stable.version} is to serve", body=made)
    if changes := differences({MODE: NAME}, service["metadata"].get("annotations") or {}):
        return _patch(service, wanted, {}, f"{changes[0]} is not {NAME}: without it KServe refuses a canary", False)
    there = canaries(service)
    is_right = storage_uri(service["spec"]["predictor"]) == wanted.uri(wanted.stable)
    step = (_beside if is_right else _take_over)(service, wanted, wanted.stable, there, drained)
    ready = sum(one.ready for one in there)
    if step.verb or ready <= _room(service, wanted, there):
        return step
    spec = {"predictor": scaling(wanted, ready)}
    return _patch(service, wanted, spec, "a canary that is ready is not to take the champion's pods", step.in_force)


def scaling(wanted: Wanted, beside: int) -> Object:
    """How many pods the one that serves has, and by which load it grows; `beside`: canaries that are ready.

    KServe takes the pods of these from `minReplicas`, so that they are added to it. `maxReplicas` is there always:
    without it the number is fixed, and goes down at once when a canary is ready, before this is seen here.
    """
    least = wanted.replicas * (1 + beside)
    most = max(wanted.maximum, least)
    return {"minReplicas": least, "maxReplicas": most, "scaleMetric": "cpu", "scaleTarget": CPU_PERCENT}


def _room(service: Object, wanted: Wanted, there: Sequence[Canary]) -> int:
    """For how many canaries `minReplicas` has room; kept while they are there, ready or not."""
    found = int(service["spec"]["predictor"].get("minReplicas") or 0) / wanted.replicas - 1
    lawful = found.is_integer() and 0 <= found <= len(there)
    return int(found) if lawful else sum(one.ready for one in there)


def _take_over(
    service: Object, wanted: Wanted, stable: Revision, there: Sequence[Canary], drained: bool
) -> Step:  # fmt: skip
    """Another one serves than should: the right one becomes a canary, and then the predictor."""
    mine = next((one for one in there if one.uri == wanted.uri(stable)), None)
    if mine is None:
        return _add(service, wanted, stable, there)
    if len(there) > 1:
        return _retire(service, wanted, there, drained, mine)
    if not mine.ready:
        return Step("", f"version {stable.version} is not ready to take over")
    old = {name: value for name, value in service["spec"]["predictor"].items() if name not in SCALING}
    replaced = {"predictor": {**old, "minReplicas": wanted.replicas}, "trafficPercent": 0}
    new = {"predictor": {**mine.body["predictor"], **scaling(wanted, 1)}, "canary": [replaced]}
    spec = merge_patch(service["spec"], {**service["spec"], **new})
    return _patch(service, wanted, spec, f"version {stable.version} is promoted", False)


def _beside(
    service: Object, wanted: Wanted, stable: Revision, there: Sequence[Canary], drained: bool
) -> Step:  # fmt: skip
    """The right one serves; who stands beside it, and with which share?"""
    side = wanted.side
    mine = next((one for one in there if side and one.uri == wanted.uri(side)), None)
    if side is not None and mine is None:
        return _add(service, wanted, side, there)
    if len(there) > (mine is not None):
        return _retire(service, wanted, there, drained, mine)
    asked: Object = {"predictor": {**predictor(wanted, stable), **scaling(wanted, _room(service, wanted, there))}}
    if side is not None:
        asked["canary"] = [_canary_spec(wanted, side, wanted.percent)]
    if changes := differences(asked, service["spec"]) or differences(MANAGER, service["metadata"].get("labels") or {}):
        # A list is replaced as a whole by a merge.
        return _patch(service, wanted, asked, f"{', '.join(changes)} is not as the record says", False)
    in_force = is_seen(service) and (mine is None or mine.routed == wanted.percent)
    return Step("", "as the record says" if in_force else "KServe has not carried it out yet", in_force)


def _retire(
    service: Object, wanted: Wanted, there: Sequence[Canary], drained: bool, kept: Canary | None = None
) -> Step:  # fmt: skip
    """Canaries that should not be: first no traffic, then, once that is observed and they have drained, no pods."""
    going = [one for one in there if one is not kept]
    names = ", ".join(one.uri for one in going)
    if any(one.asked for one in going):
        bodies = [one.body if one is kept else {**one.body, "trafficPercent": 0} for one in there]
        return _patch(service, wanted, {"canary": bodies}, f"no more traffic for {names}", False)
    quiet = is_seen(service) and not any(one.routed for one in going)
    if not (quiet and drained):
        return Step("", f"{names} drains", quiet and not wanted.percent and not any(one.routed for one in there))
    spec = {"canary": [kept.body] if kept else None, "predictor": scaling(wanted, int(kept is not None and kept.ready))}
    return _patch(service, wanted, spec, f"{names} has drained and goes", True)


def _add(service: Object, wanted: Wanted, side: Revision, there: Sequence[Canary]) -> Step:
    """One more canary, while others that are to go drain beside it."""
    going = [{**one.body, "trafficPercent": 0} for one in there]
    spec = {"canary": [*going, _canary_spec(wanted, side, 0)]}
    return _patch(service, wanted, spec, f"version {side.version} comes in without traffic", False)


def _canary_spec(wanted: Wanted, side: Revision, percent: int) -> Object:
    return {"predictor": predictor(wanted, side), "trafficPercent": percent}


def _canary(body: Object, status: Object, seen: bool) -> Canary:
    asked, ready = int(body.get("trafficPercent") or 0), bool(status.get("ready"))
    # What the controller has not seen yet may still have the share that it had.
    routed = int(status.get("trafficPercent", asked) or 0) if ready or not seen else 0
    return Canary(storage_uri(body["predictor"]), asked, routed, ready, body)


def _patch(service: Object, wanted: Wanted, spec: Object, words: str, in_force: bool) -> Step:
    annotations = {MODE: NAME, GENERATION: str(wanted.generation)}
    metadata = {"resourceVersion": service["metadata"]["resourceVersion"], "annotations": annotations}
    body: Object = {"metadata": {**metadata, "labels": dict(MANAGER)}} | ({"spec": spec} if spec else {})
    return Step("patch", words, in_force, body)
