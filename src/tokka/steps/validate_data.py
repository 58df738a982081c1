"""validate_data: read strictly, quarantine bad rows, and hold the rest against the expectation suite."""

from pathlib import Path
from typing import Any

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "validate_data"


def run(params: Params, settings: Settings, out: Path, snapshot: str = "") -> dict[str, Any]:
    """Write rows.parquet, quarantine.jsonl, validation.json and docs.html into `out` and return the verdict.

    Raises:
        Refused: a critical expectation failed.
        TokkaError: the file cannot be read.
    """
    from tokka.data.validation.validation import validate_source

    with progress.step(STEP):
        outcome = validate_source(params, settings, out, feedback=Path(snapshot) if snapshot else None)
        progress.result(STEP, **outcome)
        return outcome
