"""canary: put an approved version in front of users by steps, each judged; promote it or roll it back."""

from pathlib import Path
from typing import TYPE_CHECKING

from tokka import files, progress
from tokka.deployment.record.leases import Leases, renewed
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.settings import Settings
from tokka.steps.gate import ended

if TYPE_CHECKING:
    from tokka.deployment.record.record import Record
    from tokka.deployment.rollout import RolloutResult
    from tokka.registry.mlflow_client import Registry

# Verdicts after which the same run would have nothing left to do.
SETTLED = ("promoted", "rolled_back")
# How the task ends: what was held back for too long was refused as well.
ENDS = {"promoted": "promoted", "rolled_back": "rolled_back", "held": "rolled_back", "superseded": "superseded"}


@progress.step("canary")
@renewed
def run(params: Params, settings: Settings, version: str, out: Path) -> JsonObject:
    """Roll out where `deployment.target` says; write canary.json and canary.html into `out`.

    On the local stack, which is started when needed; or on KServe, by saying in the record what is wanted: `held` when
    no reconciler takes it up. TokkaError when nothing can serve (a taken port, a missing program).
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.attempts import FAILED, Attempts
    from tokka.deployment.record.record import Record
    from tokka.deployment.remote import request_rollout, target_of
    from tokka.deployment.review.admission import SignedAdmission
    from tokka.evaluation.report.pages import canary_page
    from tokka.notifications import Event
    from tokka.notifications.delivery import tell, try_once
    from tokka.registry.mlflow_client import Registry

    record = Record(settings.record_url, patience_s=PATIENCE_S)
    registry = Registry(settings, params.registry.model)
    if target_of(params.deployment, in_pod=settings.in_pod) == "kserve":
        admission = SignedAdmission(record, params, settings)
        result = request_rollout(version, admission, record, params, settings.job)
    else:
        result = _on_local_stack(params, settings, version, record, registry)
    outcome = result.as_dict()
    files.write_json(out / "canary.json", outcome)
    files.write_text(out / "canary.html", canary_page(version, outcome, params.registry.model))
    attempt = FAILED if result.verdict == "superseded" else result.verdict
    key = conclude(registry, version, settings, review="approved", canary=outcome)
    Attempts(record).finish(params.registry.model, attempt, settings.job, key)
    # Whatever it came to, nothing is left to do: what was held may begin anew at once.
    Leases(record).end(settings.job, succeeded=True)
    if result.verdict == "held":
        what, subject = f"Version {version} is not rolled out now.", f"{version}/{settings.job or result.reasons}"
        run_id = registry.version(version).run_id
        event = Event("held", params.registry.model, subject, what, result.reasons, "", version, run_id)
        tell(event, params, settings)
    # What the loop has told of is not left waiting for a stack that may end with this run.
    try_once(params, settings)
    progress.result("canary", **outcome)
    return outcome


def _on_local_stack(
    params: Params, settings: Settings, version: str, record: "Record", registry: "Registry"
) -> "RolloutResult":
    from tokka.deployment.loop import run_rollout
    from tokka.deployment.rollout import Rollout, through_gateway
    from tokka.stack.local_target import LocalTarget
    from tokka.stack.stack import ensure_up

    ensure_up(settings, params)
    rollout = Rollout(
        version=version, registry=registry, record=record, target=LocalTarget(settings, params), params=params,
        settings=settings, traffic=through_gateway(settings),
    )  # fmt: skip
    return run_rollout(rollout)


def conclude(registry: "Registry", version: str, settings: Settings, *, review: str, canary: Tree | None) -> str:
    """Keep what the run that made a version came to under that run's key, when nothing is left to do for it.

    Returns that key; empty for a version that no run of ours has made.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.claims import Claims
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.registry import entities

    offered = registry.version(version)
    found = registry.run(offered.run_id)
    key, over = found.tags.get(entities.RUN_KEY, ""), review == "refused" or (canary or {}).get("verdict") in SETTLED
    if not key or not over or entities.OVERRIDE in offered.tags:  # past the gate it is another request
        return key
    verdict = {name: canary[name] for name in ("verdict", "reasons")} if canary else None
    gate = {"verdict": found.tags.get(entities.GATE, ""), "reasons": []}
    known = {"version": version, "review": review, "canary": verdict}
    digests = {"data_digest": entities.DATA_DIGEST, "model_digest": entities.MODEL_DIGEST}
    known |= {name: found.tags.get(tag) for name, tag in digests.items()}
    result = ended(key, run_id=found.run_id, gate=gate, mlflow=settings.tracking_uri, **known)
    Claims(RecordDatabase(settings.record_url, patience_s=PATIENCE_S)).conclude(key, settings.job, result)
    return key
