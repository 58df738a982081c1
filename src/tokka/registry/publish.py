"""From an evaluated candidate to a signed registry version, and back to files that may be served.

run_id = log_evaluation(evidence, model, params, settings, key, provenance)
record_decision(run_id, decision, gate_folder, params, settings)
version = register_candidate(run_id, params, settings)
folder = fetch_version(version, params, settings)          # verified: signature and digest

Every function raises TokkaError when MLflow does not answer, or has no such run, version or file.
"""

import os
import shutil
import tempfile
from pathlib import Path

from tokka import files
from tokka.errors import Refused
from tokka.model.folder import model_digest, read_model_config
from tokka.params import Params
from tokka.registry import card, entities, metrics, mlmodel, model_cache, signing
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


def log_evaluation(evidence: Path, model: Path, params: Params, settings: Settings, key: str, provenance: Json) -> str:
    """Sign the model and log it with its evaluation as one MLflow run; return the run's id.

    The given folders are left as they are: signature and page files go into a staged copy of hard links.

    Raises:
        Refused: the model folder is not the one that provenance names, or holds links.
    """
    evaluation = files.read_json(evidence / "evaluation.json")
    registry = open_registry(params, settings)
    digest = model_digest(model)
    if provenance.get("model_digest", digest) != digest:
        raise Refused(f"{model} is not the model that was evaluated: its digest is {digest[:16]}…", "train it again")
    tags = {tag: str(provenance[name]) for name, tag in PROVENANCE_TAGS.items() if provenance.get(name)}
    tags |= {entities.MODEL_DIGEST: digest, entities.SYNTHETIC: str(is_synthetic(provenance)).lower()}
    tags |= {entities.FORM: read_model_config(model).serve, entities.PROFILE: params.export.profile}
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".publish-") as staging:
        return registry.log_run(
            key,
            params=flat_params(params),
            metrics=metrics.of_evidence(evidence),
            tags=tags,
            folder_evidence=_staged_evidence(evidence, Path(staging) / "evidence", provenance),
            folder_model=_staged_model(model, Path(staging) / "model", settings),
            folder_page=_staged_page(Path(staging) / "page", params),
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
            registry.download_evidence(run_id, Path(staging) / "evidence")
            text = _log_card(registry, Path(staging), run, params, override)
        registry.describe(version, text)


def record_decision(run_id: str, decision: Json, out: Path, params: Params, settings: Settings) -> None:
    """Log the gate's decision: its files first, and last the tag that `register_candidate` requires."""
    registry = open_registry(params, settings)
    files.write_json(out / "gate.json", decision)
    registry.log_artifact(run_id, out)
    registry.tag_run(run_id, {entities.GATE: str(decision.get("verdict", "refuse"))})


def register_candidate(run_id: str, params: Params, settings: Settings, override: str = "") -> str:
    """Make the registry version of a run that the gate has passed; the same run always gives the same version.

    Raises:
        Refused: the gate did not pass it and `override` is empty, or the stored model is not what was signed.
    """
    registry = open_registry(params, settings)
    run = registry.run(run_id)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".register-") as staging:
        folder = Path(staging) / "evidence"
        registry.download_evidence(run_id, folder)
        _require_admitted(run, _decision(folder), override.strip())
        _materialised(registry, run_id, run.tags.get(entities.MODEL_DIGEST, ""))
        text = _log_card(registry, Path(staging), run, params, override.strip())
    version = registry.register(run_id, description=text, tags=_version_tags(run, params, override.strip()))
    _name_challenger(registry, version)
    return version


def fetch_version(version: str, params: Params, settings: Settings) -> Path:
    """The folder of a version's model, verified by signature and digest; downloaded once.

    Raises:
        Refused: what the registry gives is not what was signed.
    """
    registry = open_registry(params, settings)
    found = registry.version(version)
    return _materialised(registry, found.run_id, found.digest)


def fetch_evidence(name: str, version: str, params: Params, settings: Settings) -> Path:
    """One file of a version's evidence, kept in the home after the first download.

    reference.parquet holds held-out rows that drift is measured against, replay.parquet test rows that a rollout sends
    when there is no traffic.
    """
    registry = open_registry(params, settings)
    run_id = registry.version(version).run_id
    target = settings.home / "evidence" / run_id / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as staging:
            registry.download_artifacts(run_id, f"{entities.EVIDENCE_FOLDER}/{name}", Path(staging) / "one")
            (Path(staging) / "one" / name).replace(target)
    return target


def fetch_lineage(version: str, params: Params, settings: Settings) -> Json:
    """Everything that made a version, as `log_evaluation` was given it: params, commit, every digest.

    Raises:
        Refused: the stored lineage is that of another model.
    """
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


def is_synthetic(provenance: Json) -> bool:
    """Whether the data was Tokka's generated sample."""
    return str(provenance.get("synthetic", "")).lower() == "true"


def flat_params(params: Params) -> dict[str, str]:
    """Every tunable as `section/key`: the prefix keeps them apart from the inputs that kfp's launcher logs."""
    flat: dict[str, str] = {}
    for section, values in params.model_dump(mode="json").items():
        for key, value in values.items():
            nested = value.items() if isinstance(value, dict) else [("", value)]
            flat |= {f"{section}/{key}{'.' if name else ''}{name}": str(leaf) for name, leaf in nested}
    return flat


def _materialised(registry: Registry, run_id: str, digest: str) -> Path:
    def download(into: Path) -> None:
        registry.download_artifacts(run_id, entities.MODEL_FOLDER, into)

    return model_cache.materialise(registry.settings, digest, download)


def _staged_evidence(evidence: Path, target: Path, provenance: Json) -> Path:
    shutil.copytree(evidence, target, copy_function=_link)
    files.write_json(target / "provenance.json", dict(provenance))
    return target


def _staged_model(model: Path, target: Path, settings: Settings) -> Path:
    shutil.copytree(model, target, copy_function=_link, symlinks=True)
    signing.sign(target, settings)
    return target


def _staged_page(target: Path, params: Params) -> Path:
    target.mkdir()
    mlmodel.write_page_files(
        target,
        classification=params.task.type == "classification",
        pair=params.task.text_pair is not None,
        example="Where is my parcel?",
    )
    return target


def _link(source: str, target: str) -> str:
    """A hard link costs nothing; another file system, or a link that must stay one, gets a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _dataset(evaluation: Json, params: Params, provenance: Json) -> Dataset:
    return Dataset(
        name="sample (synthetic)" if is_synthetic(provenance) else Path(params.data.source or "data").name,
        digest=str(evaluation.get("data_digest") or provenance.get("data_digest") or ""),
        source=params.data.source,
        test_rows=int((evaluation.get("test") or {}).get("rows") or 0),
    )


def _require_admitted(run: RunInfo, decision: Json, override: str) -> None:
    """Tag and stored decision must both say pass: one of them alone may be left from a run that was cut short."""
    verdicts = {run.tags.get(entities.GATE, "missing"), str(decision.get("verdict", "missing"))}
    if verdicts != {"pass"} and not override:
        reasons = "; ".join(str(reason) for reason in decision.get("reasons") or []) or "no decision was recorded"
        raise Refused(
            f"run {run.run_id} did not pass the gate: {reasons}",
            "improve the candidate, or give a reason to override the gate, which is recorded with the version",
        )


def _decision(folder: Path) -> Json:
    gate = folder / "gate.json"
    return dict(files.read_json(gate)) if gate.is_file() else {}


def _log_card(registry: Registry, staging: Path, run: RunInfo, params: Params, override: str) -> str:
    """Write the card from `staging`/evidence, keep it with the run, and return it."""
    text = _card(staging / "evidence", run, params, override)
    files.write_text(staging / CARD, text)
    registry.log_artifact(run.run_id, staging / CARD)
    registry.tag_run(run.run_id, {"mlflow.note.content": mlmodel.shortened(text)})
    return text


def _card(folder: Path, run: RunInfo, params: Params, override: str) -> str:
    provenance: Json = files.read_json(folder / "provenance.json")
    shown = {"key": run.tags.get(entities.KEY, ""), **provenance, "run": run.run_id}
    return card.model_card(
        files.read_json(folder / "evaluation.json"),
        _decision(folder),
        shown,
        details=files.read_json(folder / "details.json") if (folder / "details.json").is_file() else {},
        model=params.registry.model,
        synthetic=is_synthetic(provenance),
        override=override,
    )


def _version_tags(run: RunInfo, params: Params, override: str) -> dict[str, str]:
    tags = {name: run.tags[name] for name in VERSION_TAGS if name in run.tags}
    tags[entities.GATE] = run.tags.get(entities.GATE, "missing")
    tags[entities.REVIEW] = "waiting" if params.registry.review == "required" else "automatic"
    return tags | ({entities.OVERRIDE: override} if override else {})


def _name_challenger(registry: Registry, version: str) -> None:
    """Point `challenger` at a new version, not at one that already serves or served, nor back at an older one."""
    held = registry.aliases()
    if version in (held.get(entities.CHAMPION), held.get(entities.PREVIOUS)):
        return
    if int(held.get(entities.CHALLENGER, "0")) < int(version):
        registry.set_alias(entities.CHALLENGER, version)
