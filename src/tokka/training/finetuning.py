"""From prepared rows and a general model to a specialist on disk: the step's entry points.

torch and Lightning are imported when something is trained, not when an earlier training is reused.
"""

import os
import shutil
import time
from pathlib import Path
from typing import NotRequired, TypedDict

from tokka import files, progress, provenance
from tokka.data.preparation.unlabelled import unlabelled_digest, unlabelled_file
from tokka.model import profile
from tokka.model.base import BaseModelFolder, resolve_base
from tokka.model.folder import config_digest, read_model_config
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore
from tokka.training.nodes.exchange import Request
from tokka.training.nodes.submission import discard, train_on_nodes

STEP = "finetune"
TRAINING = "training"
OUTCOME = "outcome.json"
MODEL = "model"


class Outcome(TypedDict):
    """What training and export came to.

    digest: of the model. training_reused: only the export was made anew. metrics: flat figures. curves: one entry per
    epoch. seconds, cpu_seconds: of this process. reused: nothing had to be done.
    """

    digest: str
    weights_sha256: str
    metrics: dict[str, float]
    training_reused: bool
    curves: list[dict[str, float]]
    precision: str
    threads: int
    base: dict[str, str]
    seconds: NotRequired[float]
    cpu_seconds: NotRequired[float]
    reused: NotRequired[bool]


def finetune_step(prepared: Path, params: Params, settings: Settings, out: Path, data_digest: str) -> Outcome:
    """Put the model folder for these inputs into `out`: from the store when it was made before, else by training.

    With `finetuning.nodes` above 1 a TrainJob trains, and only the export is made here. Returns what `finetune` does,
    and `reused`: whether nothing had to be trained; raises what it does.
    """
    base = resolve_base(params.model, settings.home / "base")
    # What is practised on decides the weights as the labelled rows do.
    practice = unlabelled_digest(params, settings)
    learned = files.digest_json([data_digest, practice]) if practice else data_digest
    key, training = provenance.step_key(STEP, params, learned, base.digest), training_key(params, learned, base.digest)
    store = StepStore(settings.home / "store")
    # Two exports of one training must not train it twice, so that the lock and the workspace are the training's.
    with files.locked(store.root / STEP / f".lock-{training}"):
        if entry := store.find(STEP, key):
            progress.report(STEP, "this model was made before: reused", fraction=1.0)
            return {**_copy(entry, out), "reused": True}
        work, unlabelled = store.workspace(STEP, training), unlabelled_file(params, settings)
        on_nodes = params.finetuning.nodes > 1 and store.find(TRAINING, training) is None
        if on_nodes:
            train_on_nodes(Request(training, learned, params, prepared, base, unlabelled), settings, store)
        outcome = finetune(prepared, params, out, work, base, unlabelled, store, training)
        outcome["training_reused"] &= not on_nodes
        with store.entry(STEP, key) as made:
            shutil.copytree(out, made / MODEL)
            files.write_json(made / OUTCOME, outcome)
        store.discard_workspace(STEP, training)
        if on_nodes:
            discard(settings, training)
        return {**outcome, "reused": False}


def training_key(params: Params, data_digest: str, base_digest: str) -> str:
    """The key of the weights alone: the export section does not change them, but for the length of the texts."""
    return provenance.step_key(TRAINING, params, data_digest, base_digest, str(profile.max_tokens(params)))


def finetune(
    prepared: Path,
    params: Params,
    out: Path,
    work: Path,
    base: BaseModelFolder | None = None,
    unlabelled: Path | None = None,
    store: StepStore | None = None,
    key: str = "trained",
) -> Outcome:
    """Train, export, and write the model folder `out`.

    Args:
        work: keeps the checkpoint: the same call after a kill goes on and ends with the same weights.
        base: the resolved base model; by default what `params.model` names.
        unlabelled: the table behind `adaptation.source`; by default it is fetched.
        store: keeps the trained weights under `key`, for another export of them; by default in `work`.

    Raises:
        TokkaError: nothing can be learned from the rows, the loss is not finite, memory ran out, or a form disagrees.
        UsageError: the params contradict each other, or the time budget does not allow one step.
    """
    # Waiting threads sleep instead of spinning; read when torch is loaded. Measured with two threads on two busy cores:
    # 180 rows per processor second instead of 26.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    profile.check_export(params)
    began, cpu_began = time.monotonic(), time.process_time()
    base = base or resolve_base(params.model, work / "base")
    progress.report(STEP, f"loading {base.name}", fraction=0.0)
    unlabelled = unlabelled or unlabelled_file(params, Settings.from_environment())
    outcome = _train_and_export(prepared, params, base, out, work, unlabelled, store or StepStore(work), key)
    outcome["seconds"], outcome["cpu_seconds"] = time.monotonic() - began, time.process_time() - cpu_began
    return outcome


def _train_and_export(
    prepared: Path, params: Params, base: BaseModelFolder, out: Path, work: Path, unlabelled: Path | None,
    store: StepStore, key: str,
) -> Outcome:  # fmt: skip
    from tokka.data.preparation.prepared import load
    from tokka.training import trained_weights
    from tokka.training.export import export
    from tokka.training.fit.validation import validation_metrics
    from tokka.training.setup.precision import LIGHTNING
    from tokka.training.setup.training_setup import own_randomness_and_threads, prepare_training
    from tokka.training.train import train

    rows = load(prepared)
    with own_randomness_and_threads(params) as threads:
        setup = prepare_training(rows, params, base, unlabelled)
        found = trained_weights.load(store, key, setup)
        if found:
            progress.report(STEP, "these weights were trained before: only the export is made anew", fraction=0.9)
        trained = found or trained_weights.save(store, key, setup, train(setup, work))
        facts = export(setup, trained.outputs, out, trained.held_out)
    steering = validation_metrics(rows.task, trained.honest, setup.validation.targets)
    config = read_model_config(out)
    return {
        "digest": config_digest(config),
        "weights_sha256": config.files["model.safetensors"].sha256,
        "metrics": {**{f"validation_{name}": value for name, value in steering.items()}, **facts, **trained.facts},
        "training_reused": found is not None,
        "curves": trained.curves,
        "precision": LIGHTNING[setup.precision],
        "threads": threads,
        "base": {"name": base.name, "digest": base.digest},
    }


def _copy(entry: Path, out: Path) -> Outcome:
    """Put the model folder of a store's entry in the place of `out`, and return its outcome."""
    staging = out.with_name(f".{out.name}.fetched")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(entry / MODEL, staging)
    shutil.rmtree(out, ignore_errors=True)
    files.publish_folder(staging, out)
    outcome: Outcome = files.read_json(entry / OUTCOME)
    return outcome
