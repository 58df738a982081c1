"""detect_drift: does the traffic still look like what the champion was tested on, and is a retraining due?"""

import time
from collections.abc import Iterator
from pathlib import Path

from tokka import progress
from tokka.deployment.record.leases import renewed
from tokka.files import JsonObject, Tree
from tokka.notifications import Event
from tokka.params import Params
from tokka.settings import Settings


@progress.step("detect_drift")
@renewed
def run(params: Params, settings: Settings, cause: str, out: Path) -> JsonObject:
    """Write drift.html and drift.json into `out`; return verdict, reasons and the snapshot of labelled feedback.

    TokkaError when the request log or the reference cannot be read.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record import leases
    from tokka.deployment.record.attempts import Attempts
    from tokka.deployment.record.record import Record
    from tokka.deployment.review.admission import SignedAdmission
    from tokka.monitoring.observe import Champion, detect_drift
    from tokka.notifications.delivery import tell, try_once
    from tokka.registry.publish import fetch_run_evidence

    endpoint, record = params.registry.model, Record(settings.record_url, patience_s=PATIENCE_S)
    attempts = Attempts(record)
    champion = record.read(endpoint).champion
    watched = Champion()
    if champion:
        run_id = SignedAdmission(record, params, settings).run_of(champion.version)
        names = ("reference.parquet", "replay.parquet")
        watched = Champion(champion.version, *(fetch_run_evidence(name, run_id, params, settings) for name in names))
    outcome: JsonObject = {
        **detect_drift(params, settings, cause, out, watched, attempts.all(endpoint, but=settings.job))
    }
    outcome["snapshot"] = outcome["snapshot"] or (champion.snapshot if champion else "")
    if outcome["verdict"] == "retrain":
        attempts.begin(
            endpoint, cause, outcome["trigger_key"], settings.job, leases.holder(settings), outcome["reasons"]
        )
    for event in notices(outcome, endpoint, champion.version if champion else "", time.gmtime()):
        tell(event, params, settings)
    # That a retraining has started was written with the attempt.
    try_once(params, settings)
    progress.result("detect_drift", **outcome)
    return outcome


def notices(outcome: Tree, endpoint: str, version: str, now: time.struct_time) -> Iterator[Event]:
    """What people are told of a look at the traffic; a drift that lasts is told again each week, an alert each day."""
    why, retrains = tuple(outcome["reasons"]), outcome["verdict"] == "retrain"
    shown = "`tokka monitor` shows the windows"
    if outcome["drift"] == "drifted":
        follows = "a retraining follows" if retrains else "no retraining follows now"
        needs = f"nothing: {follows}; {shown}" if retrains else f"whoever owns the data, since {follows}; {shown}"
        what = f"The traffic of version {version} is confirmed to differ from what it was tested on; {follows}."
        subject = f"{version}/{time.strftime('%G-W%V', now)}"
        yield Event("drift_confirmed", endpoint, subject, what, why, needs, version)
    if outcome["alert"]:
        what = "No retraining is started by itself: a person has to look."
        subject, needs = f"alert/{version}/{time.strftime('%F', now)}", f"an operator: {shown}"
        yield Event("not_retrained", endpoint, subject, what, why, needs, version)
