"""detect_drift: does the traffic still look like what the champion was tested on, and is a retraining due?"""

from pathlib import Path
from typing import Any

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "detect_drift"


def run(params: Params, settings: Settings, cause: str, out: Path) -> dict[str, Any]:
    """Write drift.html and drift.json into `out`; return verdict, reasons and the snapshot of labelled feedback.

    Raises:
        TokkaError: the request log or the reference cannot be read.
    """
    from tokka.deployment.record.record import Record
    from tokka.deployment.record.retrainings import Attempts
    from tokka.monitoring.observe import Champion, detect_drift
    from tokka.registry.publish import fetch_evidence

    with progress.step(STEP):
        endpoint, attempts = params.registry.model, Attempts(settings.record_url)
        champion = Record(settings.record_url).read(endpoint).champion
        watched = Champion()
        if champion:
            names = ("reference.parquet", "replay.parquet")
            watched = Champion(
                champion.version, *(fetch_evidence(name, champion.version, params, settings) for name in names)
            )
        outcome: dict[str, Any] = {**detect_drift(params, settings, cause, out, watched, attempts.recent(endpoint))}
        outcome["snapshot"] = outcome["snapshot"] or (champion.snapshot if champion else "")
        if outcome["verdict"] == "retrain":
            attempts.begin(endpoint, cause, outcome["trigger_key"])
        progress.result(STEP, **outcome)
        return outcome
