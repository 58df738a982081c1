"""evaluate: candidate, champion and general baseline on the same frozen rows, as one MLflow run."""

from pathlib import Path
from typing import Any

from tokka import files, progress, provenance
from tokka.errors import TokkaError
from tokka.evaluation.gate.schema import Champion
from tokka.params import Params
from tokka.settings import Settings

STEP = "evaluate"


def run(
    params: Params, settings: Settings, *, prepared: Path, model: Path, key: str, snapshot: str, out: Path
) -> tuple[str, dict[str, Any]]:
    """Write the evidence folder into `out`, log it to MLflow, and return the run's id and the evaluation.

    Raises:
        TokkaError: the evaluation failed or MLflow does not answer.
    """
    from tokka.evaluation.evaluate import evaluate
    from tokka.registry.metrics import write_training
    from tokka.registry.publish import log_evaluation

    with progress.step(STEP):
        evaluation = evaluate(prepared, model, find_champion(params, settings), params, out)
        facts = {"key": key, **lineage(params, settings, prepared, model, snapshot)}
        write_training(settings.home, facts["model_digest"], out)
        run_id = log_evaluation(out, model, params, settings, key, facts)
        progress.result(STEP, run_id=run_id, evaluation=evaluation, report=str(out / "report.html"))
        return run_id, evaluation


def find_champion(params: Params, settings: Settings) -> Champion:
    """The model that serves now, fetched and verified; unreachable is a state of its own, never "none"."""
    from tokka.deployment.record.record import Record
    from tokka.registry.publish import fetch_version

    try:
        champion = Record(settings.record_url).read(params.registry.model).champion
        if champion is None:
            return Champion(status="none", version="", folder=None, reason="nothing serves yet")
        folder = fetch_version(champion.version, params, settings)
    except TokkaError as error:
        return Champion(status="unreachable", version="", folder=None, reason=error.message)
    return Champion(status="present", version=champion.version, folder=folder, reason="")


def lineage(params: Params, settings: Settings, prepared: Path, model: Path, snapshot: str) -> dict[str, Any]:
    """Everything that made this candidate, from raw file to model: what `tokka reproduce` walks."""
    from tokka.data.fetching import source_digest
    from tokka.data.sample import is_sample
    from tokka.model.folder import model_digest, read_model_config

    lock, config = prepared / "dvc.lock", read_model_config(model)
    return {
        "params": params.model_dump(mode="json", exclude_none=True),
        "snapshot": snapshot,
        "commit": provenance.git_commit(settings.root),
        "code_version": provenance.code_version(),
        "environment": files.digest_json(provenance.environment_versions()),
        "source_digest": source_digest(params, settings, Path(snapshot) if snapshot else None),
        "dvc_lock": lock.read_text() if lock.exists() else "",
        "data_digest": files.read_json(prepared / "digest.json")["digest"],
        "base_digest": config.base.digest,
        "precision": config.precision,
        "model_digest": model_digest(model),
        "synthetic": is_sample(settings.root / params.data.source),
    }
