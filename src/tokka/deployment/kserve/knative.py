"""The next write in Knative mode: one predictor, whose newest revision gets `canaryTrafficPercent`. Pure.

Knative keeps the revision that was rolled out last while a new one has no or little traffic, and sends the rest there.
Which model that is stands in no status, so an annotation says it, written with the same patch.
"""

from tokka.deployment.kserve.inference_service import (
    GENERATION,
    MODE,
    STABLE,
    Wanted,
    differences,
    is_observed,
    predictor,
    storage_uri,
    whole,
)
from tokka.deployment.kserve.standard import Step
from tokka.deployment.record.state import Revision
from tokka.kubernetes.api import Object

NAME = "Knative"
PERCENT = "canaryTrafficPercent"
# Knative names revisions itself, replaces none before the next is ready, spreads pods as its administrator says, and
# gives them a fixed time to end.
NOT_HERE = ("name", "terminationGracePeriodSeconds", "deploymentStrategy", "topologySpreadConstraints")
# Requests that a pod has at the same time: half a batch.
CONCURRENCY = 8


def split_of(service: Object) -> dict[str, int]:
    """The percent of the traffic that Knative gives to each model's address."""
    newest, before = storage_uri(service["spec"]["predictor"]), _before(service)
    status = service.get("status", {}).get("components", {}).get("predictor", {})
    created, traffic = status.get("latestCreatedRevision", ""), status.get("traffic") or []
    percent = sum(int(one.get("percent") or 0) for one in traffic if one.get("revisionName") == created)
    return {before: 100 - percent, newest: percent} if before else {newest: 100}


def next_step(service: Object | None, wanted: Wanted, drained: bool) -> Step:
    """Decide; as `standard.next_step`."""
    if wanted.stable is None:
        return Step("delete", "nothing is to serve", body=service) if service else Step("", "nothing serves", True)
    if service is None:
        made = whole(wanted, _predictor(wanted, wanted.stable), NAME)
        return Step("create", f"version {wanted.stable.version} is to serve", body=made)
    percent = service["spec"]["predictor"].get(PERCENT)
    return _alone(service, wanted, wanted.stable) if percent is None else _both(service, wanted, wanted.stable, drained)


def _alone(service: Object, wanted: Wanted, stable: Revision) -> Step:
    """One revision has everything."""
    newest = storage_uri(service["spec"]["predictor"])
    if newest != wanted.uri(stable):
        return _patch(service, wanted, stable, None, f"version {stable.version} takes over once it is ready")
    if changes := differences(_predictor(wanted, stable), service["spec"]["predictor"]):
        return _patch(service, wanted, stable, None, f"{', '.join(changes)} is not as the record says")
    if not _is_rolled_out(service):
        return Step("", f"version {stable.version} is not rolled out yet")
    if wanted.side is None:
        return Step("", "as the record says", True)
    words = f"version {wanted.side.version} comes in without traffic"
    return _patch(service, wanted, wanted.side, 0, words, before=newest)


def _both(service: Object, wanted: Wanted, stable: Revision, drained: bool) -> Step:
    """The newest revision has a part, the one before it the rest."""
    newest, before = storage_uri(service["spec"]["predictor"]), _before(service)
    asked, routed = int(service["spec"]["predictor"][PERCENT]), split_of(service).get(newest, 0)
    if newest == wanted.uri(stable):
        return _patch(service, wanted, stable, None, f"version {stable.version} is promoted")
    if before == wanted.uri(stable) and wanted.side is not None and newest == wanted.uri(wanted.side):
        found, right = service["spec"]["predictor"], {**_predictor(wanted, wanted.side), PERCENT: wanted.percent}
        if changes := differences(right, found):
            words = f"{', '.join(changes)} is not as the record says"
            return _patch(service, wanted, wanted.side, wanted.percent, words, before)
        in_force = is_observed(service) and routed == wanted.percent
        return Step("", "as the record says" if in_force else "KServe has not carried it out yet", in_force)
    if asked:
        body = _metadata(service, wanted, before) | {"spec": {"predictor": {PERCENT: 0}}}
        return Step("patch", f"no more traffic for {newest}", body=body)
    quiet = is_observed(service) and not routed and before == wanted.uri(stable)
    if before == wanted.uri(stable) and not (quiet and drained):
        return Step("", f"{newest} drains", quiet and not wanted.percent)
    step = _patch(service, wanted, stable, None, f"{newest} has drained and goes")
    return step._replace(in_force=quiet)


def _predictor(wanted: Wanted, revision: Revision) -> Object:
    kept = {name: value for name, value in predictor(wanted, revision).items() if name not in NOT_HERE}
    return {**kept, "maxReplicas": wanted.maximum, "scaleMetric": "concurrency", "scaleTarget": CONCURRENCY}


def _before(service: Object) -> str:
    """The model of the revision that keeps the rest of the traffic; empty while one revision has everything."""
    if service["spec"]["predictor"].get(PERCENT) is None:
        return ""
    return str((service["metadata"].get("annotations") or {}).get(STABLE, ""))


def _is_rolled_out(service: Object) -> bool:
    status = service.get("status", {}).get("components", {}).get("predictor", {})
    newest = status.get("latestCreatedRevision")
    return is_observed(service) and bool(newest) and newest == status.get("latestReadyRevision")


def _metadata(service: Object, wanted: Wanted, stable: str | None) -> Object:
    annotations = {MODE: NAME, GENERATION: str(wanted.generation), STABLE: stable}
    return {"metadata": {"resourceVersion": service["metadata"]["resourceVersion"], "annotations": annotations}}


def _patch(
    service: Object, wanted: Wanted, revision: Revision, percent: int | None, words: str, before: str | None = None
) -> Step:  # fmt: skip
    spec = {"predictor": {**_predictor(wanted, revision), PERCENT: percent}}
    return Step("patch", words, body=_metadata(service, wanted, before) | {"spec": spec})
