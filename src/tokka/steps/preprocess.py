"""preprocess: from valid rows to versioned train, validation and test splits, as a DVC stage."""

from pathlib import Path

from tokka import progress
from tokka.deployment.record.leases import renewed
from tokka.files import JsonObject
from tokka.params import Params
from tokka.settings import Settings


@progress.step("preprocess")
@renewed
def run(params: Params, settings: Settings, rows: Path, out: Path) -> JsonObject:
    """Write the prepared folder into `out` and return digest, counts and dvc.lock.

    TokkaError when too little is left after cleaning, or DVC failed.
    """
    from tokka.data.preparation.versioning import preprocess

    outcome = preprocess(rows, params, settings, out)
    progress.result("preprocess", **{name: value for name, value in outcome.items() if name != "lock"})
    return outcome
