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
    from tokka.deployment.record import Record
    from tokka.monitoring.observe import detect_drift
    from tokka.registry.publish import fetch_reference

    with progress.step(STEP):
        record = Record(settings.record_url)
        champion = record.read(params.registry.model).champion
        reference = fetch_reference(champion.version, params, settings) if champion else None
        outcome = detect_drift(
            params,
            settings,
            cause,
            out,
            reference=reference,
            champion_version=champion.version if champion else "",
            history=record.decisions(params.registry.model, kind="retraining"),
        )
        progress.result(STEP, **outcome)
        return outcome
