"""finetune: from prepared rows and a general model to a specialist on disk."""

from pathlib import Path
from typing import Any

from tokka import files, progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "finetune"


def run(params: Params, settings: Settings, prepared: Path, out: Path) -> dict[str, Any]:
    """Write the model folder into `out` and return its metrics, curves and costs.

    Raises:
        TokkaError: the loss is not a number, memory ran out, or the export disagrees with the model.
    """
    from tokka.training.finetuning import finetune_step

    with progress.step(STEP):
        digest = files.read_json(prepared / "digest.json")["digest"]
        outcome = finetune_step(prepared, params, settings, out, digest)
        progress.result(STEP, **{name: value for name, value in outcome.items() if name != "curves"})
        return outcome
