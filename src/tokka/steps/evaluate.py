"""evaluate: candidate, champion and general baseline on the same frozen rows, as one MLflow run."""

import shutil
import tempfile
from pathlib import Path

from tokka import files, progress, provenance
from tokka.deployment.record.leases import renewed
from tokka.errors import Refused, TokkaError
from tokka.evaluation.gate.schema import Champion
from tokka.files import JsonObject
from tokka.params import Params
from tokka.settings import Settings


@progress.step("evaluate")
@renewed
def run(
    params: Params, settings: Settings, *, prepared: Path, model: Path, key: str, snapshot: str, out: Path,
    champion: str | None = None, trained: Path | None = None,
) -> tuple[str, JsonObject]:  # fmt: skip
    """Write the evidence folder into `out`, log it to MLflow, and return the run's id and the evaluation.

    Where the key has a version already, its run stands as it is, and `out` becomes the evidence that this run holds.
    `champion`: the version to compare with and its digest, empty for none; by default what serves now. `trained`: what
    finetune has written of its training, where this machine's home may lack it.

    TokkaError when the evaluation failed or MLflow does not answer; Refused as `take_standing`.
    """
    from tokka.evaluation.evaluate import evaluate
    from tokka.registry.metrics import bring_training, write_training
    from tokka.registry.publish import log_evaluation

    if trained is not None:
        bring_training(settings.home, trained)
    evaluation = evaluate(prepared, model, find_champion(params, settings, champion), params, out)
    facts = {"key": key, **lineage(params, settings, prepared, model, snapshot)}
    write_training(settings.home, facts["model_digest"], out)
    run_id = log_evaluation(out, model, params, settings, key, facts)
    if take_standing(run_id, params, settings, out):
        evaluation = files.read_json(out / "evaluation.json")
    progress.result("evaluate", run_id=run_id, evaluation=evaluation, report=str(out / "report.html"))
    return run_id, evaluation


def take_standing(run_id: str, params: Params, settings: Settings, out: Path) -> bool:
    """Put the evidence of a run that a version was made of into `out`, unless it is there; whether it was put there.

    The same rows measured again give other seconds, so that what was judged and may be waiting for a reviewer would
    not be what is judged now. Refused when MLflow holds other evidence than the gate has judged.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.deployment.record.evidence import Evidence
    from tokka.registry import entities
    from tokka.registry.publish import open_registry

    registry = open_registry(params, settings)
    version = registry.version_of(run_id)
    if version is None:
        return False
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".standing-") as place:
        registry.download_artifacts(run_id, entities.EVIDENCE_FOLDER, stored := Path(place) / "evidence")
        found = files.digest_file(stored / "evaluation.json")
        if found == files.digest_file(out / "evaluation.json"):
            return False
        record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
        judged = Evidence(record, params.registry.model).judgement(run_id) or {}
        if judged.get("evaluation_digest") != found:
            raise Refused(
                f"the evaluation of version {version} in MLflow is not the one that the gate has judged: its digest is "
                f"{found[:16]} instead of {str(judged.get('evaluation_digest', 'none'))[:16]}",
                f"it was altered since; refuse that version (tokka review refuse {version}), and change data or params",
            )
        shutil.copytree(stored, out, dirs_exist_ok=True)
    progress.report("evaluate", f"version {version} was made of this key before: its evaluation stands")
    return True


def find_champion(params: Params, settings: Settings, named: str | None = None) -> Champion:
    """The model that serves now, or that `named` names, fetched and verified; unreachable is never "none"."""
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.record import Record
    from tokka.deployment.review.admission import SignedAdmission

    generation = 0
    try:
        record = Record(settings.record_url, patience_s=PATIENCE_S)
        if named is None:
            state = record.read(params.registry.model)
            champion, generation = state.champion, state.generation
            named = f"{champion.version} {champion.digest}" if champion else ""
        version, _, digest = named.partition(" ")
        if not version:
            return Champion("none", "", None, "nothing serves yet", generation)
        folder = SignedAdmission(record, params, settings).served(version, digest)
    except TokkaError as error:
        return Champion("unreachable", "", None, error.message, generation)
    return Champion("present", version, folder, "", generation)


def lineage(params: Params, settings: Settings, prepared: Path, model: Path, snapshot: str) -> JsonObject:
    """Everything that made this candidate, from raw file to model: what `tokka reproduce` walks."""
    from tokka.data.fetching import fetch_snapshot, source_digest
    from tokka.data.sample import is_sample
    from tokka.model.folder import model_digest, read_model_config

    lock, config = prepared / "dvc.lock", read_model_config(model)
    return {
        "params": provenance.step_params("evaluate", params),
        "snapshot": snapshot,
        "commit": provenance.git_commit(settings.root),
        "code_version": provenance.code_version(),
        "environment": files.digest_json(provenance.environment_versions()),
        "source_digest": source_digest(params, settings, fetch_snapshot(snapshot, params, settings)),
        "dvc_lock": lock.read_text() if lock.exists() else "",
        "data_digest": files.read_json(prepared / "digest.json")["digest"],
        "base_digest": config.base.digest,
        "precision": config.precision,
        "model_digest": model_digest(model),
        "synthetic": is_sample(settings.root / params.data.source),
    }
