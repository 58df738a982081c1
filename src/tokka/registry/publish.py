"""From an evaluated candidate to a signed registry version, and back to files that may be served.

Every function raises TokkaError when MLflow does not answer, or has no such run, version or file.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tokka import files
from tokka.errors import Refused
from tokka.model.folder import model_digest, read_model_config
from tokka.params import Params
from tokka.provenance import STEP_SECTIONS
from tokka.registry import bundle as bundles
from tokka.registry import card, entities, metrics, mlmodel, model_cache, signing
from tokka.registry.bundle import Bundle, Judgement
from tokka.registry.entities import Dataset, Json, RunInfo
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings

PROVENANCE_TAGS = {
    "commit": entities.COMMIT,
    "code_version": entities.CODE_VERSION,
    "data_digest": entities.DATA_DIGEST,
    "base_digest": entities.BASE_DIGEST,
    "snapshot": entities.SNAPSHOT,
}
OWN_TAGS = (entities.KEY, entities.MODEL_DIGEST, entities.SYNTHETIC, entities.FORM, entities.PROFILE)
VERSION_TAGS = (*OWN_TAGS, *PROVENANCE_TAGS.values())
CARD = "model_card.md"
# What is known of the world when a version is made: what its rollout will see, and why it was trained.
FORECAST, CAUSE = "forecast.json", "cause.json"


def log_evaluation(evidence: Path, model: Path, params: Params, settings: Settings, key: str, provenance: Json) -> str:
    """Sign the model (not in a pod) and log it with its evaluation as one MLflow run; return the run's id.

    The given folders are left as they are: signature and page files go into a staged copy of hard links. Refused when
    the model folder is not the one that provenance names, or holds links.
    """
    evaluation = files.read_json(evidence / "evaluation.json")
    registry = open_registry(params, settings)
    digest = model_digest(model)
    if provenance.get("model_digest", digest) != digest:
        raise Refused(f"{model} is not the model that was evaluated: its digest is {digest[:16]}…", "train it again")
    tags = {tag: str(provenance[name]) for name, tag in PROVENANCE_TAGS.items() if provenance.get(name)}
    tags |= {entities.MODEL_DIGEST: digest, entities.SYNTHETIC: str(card.is_synthetic(provenance)).lower()}
    champion = entities.part(evaluation, "champion").get("digest")
    tags |= {entities.CHAMPION: str(champion or "none")}
    tags |= {entities.FORM: read_model_config(model).serve, entities.PROFILE: params.export.profile}
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".publish-") as place:
        staging = Path(place)
        for name, folder in {"evidence": evidence, "model": model}.items():
            shutil.copytree(folder, staging / name, copy_function=_link, symlinks=True)
        files.write_json(staging / "evidence" / "provenance.json", dict(provenance))
        if not settings.in_pod:
            # There only the step that registers has the key.
            signing.sign(staging / "model", settings)
        return registry.log_run(
            key,
            params=metrics.flat_params(params, STEP_SECTIONS["evaluate"]),
            metrics=metrics.of_evidence(evidence),
            tags=tags,
            folder_evidence=staging / "evidence",
            folder_model=staging / "model",
            folder_page=mlmodel.write_page_files(staging / "page", params),
            dataset=_dataset(evaluation, params, provenance),
        )


def publish_details(run_id: str, evidence: Path, params: Params, settings: Settings) -> None:
    """Bring a run up to date with an evidence folder whose details have grown: page, figures and, if any, the card."""
    registry = open_registry(params, settings)
    for name in ("report.html", "details.json"):
        registry.log_artifact(run_id, evidence / name)
    registry.log_metrics(run_id, metrics.of_evidence(evidence))
    run, version = registry.run(run_id), registry.version_of(run_id)
    if version is not None:
        override = registry.version(version).tags.get(entities.OVERRIDE, "")
        with tempfile.TemporaryDirectory(dir=settings.home, prefix=".card-") as staging:
            registry.download_artifacts(run_id, entities.EVIDENCE_FOLDER, Path(staging) / "evidence")
            text = _log_card(registry, Path(staging), run, params, override)
        registry.describe(version, text)


def record_decision(
    run_id: str, decision: Json, out: Path, params: Params, settings: Settings, key: str = "", commit: str = ""
) -> None:  # fmt: skip
    """Log the gate's decision: its files first, and last the tag that shows it.

    `key`: of the run of which the decision was made, which what comes after the evaluation decides too. `commit`: of
    whoever submitted it, for a run that was evaluated where there is no git.
    """
    registry = open_registry(params, settings)
    files.write_json(out / "gate.json", decision)
    registry.log_artifact(run_id, out)
    asked = {entities.RUN_KEY: key} if key else {}
    if commit and not registry.run(run_id).tags.get(entities.COMMIT):
        asked[entities.COMMIT] = commit
    registry.tag_run(run_id, asked | {entities.GATE: str(decision.get("verdict", "refuse"))})


def register_candidate(
    run_id: str, params: Params, settings: Settings, judged: Judgement | None, override: str = "", kubeflow: str = "",
    context: Mapping[str, Json] | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Make the registry version of a run that the gate has passed, and sign what was decided on what.

    Returns the version and its signed evidence, which is stored with it; the same run always gives the same version.
    `judged`: what the gate wrote into the deployment record, None for nothing; `kubeflow`: the page of the Kubeflow run
    that makes it, if any; `context`: FORECAST and CAUSE, as far as they are known, for the card.

    Refused when the gate did not pass it and `override` is empty, when the stored evaluation is not the one that the
    gate has judged, or the stored model is not what was signed.
    """
    registry, override = open_registry(params, settings), override.strip()
    run = registry.run(run_id)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".register-") as staging:
        folder = Path(staging) / "evidence"
        registry.download_artifacts(run_id, entities.EVIDENCE_FOLDER, folder)
        judged = judged or bundles.judgement(folder, run_id, {})
        _require_admitted(run, judged, override)
        _require_same_evaluation(run, judged, folder)
        if settings.in_pod:
            _sign_stored(registry, run, Path(staging) / "model")
        _materialised(registry, run_id, judged.model_digest)
        for name, content in (context or {}).items():
            files.write_json(folder / name, dict(content))
            registry.log_artifact(run_id, folder / name)
        text = _log_card(registry, Path(staging), run, params, override, judged)
        link = {entities.KFP_RUN: kubeflow} if kubeflow else {}
        tags = _version_tags(run, params, override, judged) | link
        version = registry.register(run_id, description=text, tags=tags)
        facts = judged.model_dump() | {"model": params.registry.model, "version": version, "override": override}
        envelope = bundles.seal(Bundle(**facts, made=time.time()), settings)
        files.write_text(Path(staging) / bundles.FILE, envelope)
        registry.log_artifact(run_id, Path(staging) / bundles.FILE)
    _name_challenger(registry, version)
    return version, envelope


def fetch_version(version: str, params: Params, settings: Settings) -> Path:
    """The folder of a version's model, verified by signed evidence, signature and digest (else Refused).

    It is downloaded once.
    """
    envelope = fetch_evidence(bundles.FILE, version, params, settings).read_text(encoding="utf-8")
    bundle = bundles.unseal(envelope, params.registry.model, version, settings)
    return fetch_model(bundle.run_id, bundle.model_digest, params, settings)


def fetch_model(run_id: str, digest: str, params: Params, settings: Settings) -> Path:
    """The folder of the model of this digest, as `fetch_version`; asks MLflow only for what is not here."""
    if (found := model_cache.verified_copy(settings, digest)) is not None:
        return found
    return _materialised(open_registry(params, settings), run_id, digest)


def fetch_evidence(name: str, version: str, params: Params, settings: Settings) -> Path:
    """One file of a version's evidence, such as reference.parquet; kept in the home after the first download."""
    return fetch_run_evidence(name, open_registry(params, settings).version(version).run_id, params, settings)


def fetch_run_evidence(name: str, run_id: str, params: Params, settings: Settings) -> Path:
    """The same by the run that made the version: for one that MLflow has lost."""
    target = settings.home / "evidence" / run_id / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as staging:
            found = f"{entities.EVIDENCE_FOLDER}/{name}"
            open_registry(params, settings).download_artifacts(run_id, found, Path(staging) / "one")
            (Path(staging) / "one" / name).replace(target)
    return target


def fetch_lineage(version: str, params: Params, settings: Settings) -> Json:
    """Everything that made a version, as `log_evaluation` was given it; Refused when it is that of another model."""
    lineage: Json = files.read_json(fetch_evidence("provenance.json", version, params, settings))
    wanted = open_registry(params, settings).version(version).digest
    if lineage.get("model_digest", wanted) != wanted:
        raise Refused(f"the lineage of version {version} is that of another model", "its evidence was altered")
    return lineage


def open_registry(params: Params, settings: Settings) -> Registry:
    """The registry of `registry.model`, ready for use."""
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    return registry


def _materialised(registry: Registry, run_id: str, digest: str) -> Path:
    download = partial(registry.download_artifacts, run_id, entities.MODEL_FOLDER)
    return model_cache.materialise(registry.settings, digest, download)


def _sign_stored(registry: Registry, run: RunInfo, folder: Path) -> None:
    """Sign a run's stored model, unless it is signed; Refused when it is not the one that was evaluated."""
    registry.download_artifacts(run.run_id, entities.MODEL_FOLDER, folder)
    if (folder / signing.SIGNATURE).exists():
        return
    found, wanted = model_digest(folder), run.tags.get(entities.MODEL_DIGEST, "")
    evaluated = files.read_json(folder.parent / "evidence" / "provenance.json").get("model_digest", wanted)
    if not found == wanted == evaluated:
        raise Refused(
            f"the stored model of run {run.run_id} is not the one that was evaluated: its digest is {found[:16]}…",
            "it was altered after its evaluation; run the pipeline again",
        )
    registry.add_to_model(run.run_id, signing.sign(folder, registry.settings))


def _link(source: str, target: str) -> str:
    """A hard link costs nothing; another file system gets a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _dataset(evaluation: Json, params: Params, provenance: Json) -> Dataset:
    return Dataset(
        name="sample (synthetic)" if card.is_synthetic(provenance) else Path(params.data.source or "data").name,
        digest=str(evaluation.get("data_digest") or provenance.get("data_digest") or ""),
        source=params.data.source,
        test_rows=int(entities.number(entities.part(evaluation, "test"), "rows")),
    )


def _require_admitted(run: RunInfo, judged: Judgement, override: str) -> None:
    if judged.verdict != "pass" and not override:
        raise Refused(
            f"run {run.run_id} did not pass the gate: {'; '.join(judged.reasons) or 'no decision was recorded'}",
            "improve the candidate, or give a reason to override the gate, which is recorded with the version",
        )


def _require_same_evaluation(run: RunInfo, judged: Judgement, evidence: Path) -> None:
    """What lies in MLflow is what the gate has looked at: nobody has exchanged it since."""
    stored = {
        "evaluation": (files.digest_file(evidence / "evaluation.json"), judged.evaluation_digest),
        "model": (run.tags.get(entities.MODEL_DIGEST, ""), judged.model_digest),
    }
    for what, (found, wanted) in stored.items():
        if found != wanted:
            raise Refused(
                f"the {what} of run {run.run_id} in MLflow is not the one that the gate has judged: its digest is "
                f"{found[:16] or 'missing'} instead of {wanted[:16] or 'none'}",
                "it was altered or evaluated anew since; run the pipeline again",
            )


def _log_card(
    registry: Registry, staging: Path, run: RunInfo, params: Params, override: str, judged: Judgement | None = None
) -> str:  # fmt: skip
    """Write the card from `staging`/evidence, keep it with the run, and return it."""
    folder, page = staging / "evidence", mlmodel.run_page(registry.settings.page, run.run_id)
    provenance: Json = files.read_json(folder / "provenance.json")
    text = card.model_card(
        files.read_json(folder / "evaluation.json"),
        judged.model_dump(mode="json") if judged else metrics.read_optional(folder / "gate.json"),
        {"key": run.tags.get(entities.KEY, ""), **provenance, "run": run.run_id},
        details=metrics.read_optional(folder / "details.json"),
        forecast=metrics.read_optional(folder / FORECAST),
        cause=metrics.read_optional(folder / CAUSE),
        links=[("Its evaluation, with report, whole card and signed evidence", page)] if page else [],
        model=params.registry.model,
        synthetic=card.is_synthetic(provenance),
        override=override,
    )
    files.write_text(staging / CARD, text)
    registry.log_artifact(run.run_id, staging / CARD)
    registry.tag_run(run.run_id, {"mlflow.note.content": mlmodel.shortened(text)})
    return text


def _version_tags(run: RunInfo, params: Params, override: str, judged: Judgement) -> dict[str, str]:
    tags = {name: run.tags[name] for name in VERSION_TAGS if name in run.tags}
    tags[entities.GATE] = judged.verdict
    tags[entities.REVIEW] = "waiting" if params.registry.review == "required" else "automatic"
    return tags | ({entities.OVERRIDE: override} if override else {})


def _name_challenger(registry: Registry, version: str) -> None:
    """Point `challenger` at a new version, not at one that already serves or served, nor back at an older one."""
    held = registry.aliases()
    if version in (held.get("champion"), held.get("previous")):
        return
    if int(held.get("challenger", "0")) < int(version):
        registry.set_alias("challenger", version)
