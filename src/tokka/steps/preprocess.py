"""preprocess: from valid rows to versioned train, validation and test splits, as a DVC stage."""

from pathlib import Path
from typing import Any

from tokka import progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "preprocess"


def run(params: Params, settings: Settings, rows: Path, out: Path) -> dict[str, Any]:
    """Write the prepared folder into `out` and return digest, counts and dvc.lock.

    Raises:
        TokkaError: too little is left after cleaning, or DVC failed.
    """
    from tokka.data.preparation.versioning import preprocess

    with progress.step(STEP):
        outcome = preprocess(rows, params, settings, out)
        progress.result(STEP, **{name: value for name, value in outcome.items() if name != "lock"})
        return outcome
