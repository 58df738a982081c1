"""finetune: from prepared rows and a general model to a specialist on disk."""

from pathlib import Path

from tokka import files, progress
from tokka.deployment.record.leases import renewed
from tokka.files import JsonObject
from tokka.params import Params
from tokka.settings import Settings


@progress.step("finetune")
@renewed
def run(params: Params, settings: Settings, prepared: Path, out: Path) -> JsonObject:
    """Write the model folder into `out` and return its metrics, curves and costs.

    TokkaError when the loss is not a number, memory ran out, or the export disagrees with the model.
    """
    from tokka.training.finetuning import finetune_step

    digest = files.read_json(prepared / "digest.json")["digest"]
    outcome = finetune_step(prepared, params, settings, out, digest)
    progress.result("finetune", **{name: value for name, value in outcome.items() if name != "curves"})
    return {**outcome}
