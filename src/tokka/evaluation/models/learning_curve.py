"""How much labelled data does the quality need? The same recipe on shares of the training rows, on the same test rows.

The shares are nested (the rows of 10 % are among those of 30 %) and stratified, so that a step of the curve is more
data and not other data. What was trained is kept by its key, without the models: a second evaluation costs nothing,
and one that was killed goes on at its last epoch.
"""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files, progress, provenance
from tokka.errors import TokkaError
from tokka.evaluation.metrics.metrics import Floats
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models.scoring import measure
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.registry.metrics import find_training
from tokka.settings import Settings
from tokka.store import StepStore

if TYPE_CHECKING:
    from tokka.model.base import BaseModelFolder

STORE = "learning_curve"
SCORES = "scores.npy"
OUTCOME = "outcome.json"
# A class that a small share would lose keeps so many rows: without any it could not be trained.
LEAST_ROWS = 2


def learning_curve(prepared: Path, test: TestSet, metric: str, params: Params, home: Path) -> list[dict[str, object]]:
    """Train on every share of evaluation.learning_curve and measure on the test rows, smallest share first.

    Returns:
        share, rows, value, low, high, seconds, cpu_seconds, problem; a share that cannot be trained has only
        `problem`: it fails no evaluation.
    """
    points = []
    for share in sorted(set(params.evaluation.learning_curve)):
        progress.report("evaluate", f"learning curve: the recipe on {share:.0%} of the training rows")
        points.append(_point(prepared, test, metric, params, home, share))
    return points


def subset(train: pa.Table, share: float, seed: int, classes: bool) -> pa.Table:
    """The share's rows, in their own order: of each class (of all rows, for a regression) those whose seeded hash is
    lowest, at least LEAST_ROWS of each. A smaller share is part of every larger one."""
    order = [files.digest_json([seed, row]) for row in train.column("row_id").to_pylist()]
    groups: dict[str | float | None, list[int]] = {}
    for number, target in enumerate(train.column("target").to_pylist()):
        groups.setdefault(target if classes else None, []).append(number)
    kept: list[int] = []
    for rows in groups.values():
        wanted = max(min(LEAST_ROWS, len(rows)), math.ceil(share * len(rows) - 1e-9))
        kept += sorted(rows, key=order.__getitem__)[:wanted]
    return train.take(pa.array(sorted(kept), pa.int64()))


def reading(points: Sequence[Tree], margin: float, *, higher: bool) -> str:
    """What the last step of the curve says about more data; empty for fewer than two measured points."""
    known = [point for point in points if not point["problem"]]
    if len(known) < 2:
        return ""
    before, last = known[-2], known[-1]
    gain = (last["value"] - before["value"]) * (1 if higher else -1)
    step = f"From {before['rows']:,} to {last['rows']:,} training rows the metric improved by {gain:.3g}"
    if gain > margin:
        return f"{step}, more than the margin of {margin:.3g}: more labelled rows are likely to help."
    enough = next(point for point in known if (last["value"] - point["value"]) * (1 if higher else -1) <= margin)
    return (
        f"{step}, within the margin of {margin:.3g}: the curve has flattened, and {enough['rows']:,} labelled rows "
        "already come within the margin of the whole."
    )


def spent(outcome: Tree) -> float:
    """Processor seconds of a finetune outcome; of a resumed training, those of all its parts."""
    whole = outcome.get("metrics", {}).get("training_cpu_seconds", 0.0)
    return max(float(outcome.get("cpu_seconds", 0.0)), float(whole))


def cpu_seconds(home: Path, digest: str) -> float | None:
    """What the training of the model with this digest took; None when it was trained elsewhere."""
    outcome = find_training(home, digest)
    return None if outcome is None else spent(outcome)


def _point(prepared: Path, test: TestSet, metric: str, params: Params, home: Path, share: float) -> dict[str, object]:
    empty = dict.fromkeys(("rows", "value", "low", "high", "seconds", "cpu_seconds"))
    try:
        outcome, scores = _trained(prepared, test, params, home, share)
        found = measure(test, scores, params)[metric]
    except (TokkaError, KeyError) as error:
        return {"share": share, **empty, "problem": getattr(error, "message", f"{metric} is not defined here")}
    cost = {name: outcome[name] for name in ("rows", "seconds", "cpu_seconds")}
    return {"share": share, **cost, **{name: found[name] for name in ("value", "low", "high")}, "problem": ""}


def _trained(prepared: Path, test: TestSet, params: Params, home: Path, share: float) -> tuple[JsonObject, Floats]:
    """The outcome and the aligned test scores of one share: from the store, or by training."""
    from tokka.data.preparation.unlabelled import unlabelled_digest
    from tokka.model.base import resolve_base

    base, store = resolve_base(params.model, home / "base"), StepStore(home / "store")
    practised = unlabelled_digest(params, Settings.from_environment())
    digest = files.digest_json([files.read_json(prepared / "digest.json")["digest"], practised, STORE, share])
    key = provenance.step_key("finetune", params, digest, base.digest, test.digest)
    work = store.workspace(STORE, key)
    with files.locked(store.root / STORE / f".lock-{key}"):
        if not store.fetch(STORE, key, into=work / "entry"):
            rows = _write_subset(prepared, work / "prepared", params, share, digest)
            _train(work, test, params, base, rows)
            store.save(STORE, key, work / "entry")
        outcome = files.read_json(work / "entry" / OUTCOME)
        scores = np.load(work / "entry" / SCORES, allow_pickle=False)
        store.discard_workspace(STORE, key)
    return outcome, test.align(scores, outcome["labels"])


def _write_subset(prepared: Path, into: Path, params: Params, share: float, digest: str) -> int:
    from tokka.data.preparation.prepared import load

    data = load(prepared)
    train = subset(data.train, share, params.finetuning.seed, bool(data.labels))
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name in ("validation.parquet", "test.parquet", "labels.json"):
        shutil.copy(prepared / name, into / name)
    pq.write_table(train, into / "train.parquet")
    files.write_json(into / "digest.json", {**files.read_json(prepared / "digest.json"), "digest": digest})
    files.write_json(into / "summary.json", {**data.summary, "rows": {**data.summary["rows"], "train": train.num_rows}})
    return int(train.num_rows)


def _train(work: Path, test: TestSet, params: Params, base: "BaseModelFolder", rows: int) -> None:
    """Train in `work`, which keeps the checkpoint, and write its entry for the store."""
    from tokka.model.predictor import load_predictor
    from tokka.training.finetuning import finetune

    began = time.monotonic()
    outcome = finetune(work / "prepared", provenance.on_one_machine(params), work / "model", work / "training", base)
    predictor = load_predictor(work / "model")
    scores = predictor.predict(test.texts, test.pairs).scores
    seconds = max(time.monotonic() - began, outcome["metrics"].get("training_seconds", 0.0))
    (work / "entry").mkdir(exist_ok=True)
    np.save(work / "entry" / SCORES, scores)
    kept = {"rows": rows, "labels": list(predictor.labels), "seconds": seconds, "cpu_seconds": spent(outcome)}
    files.write_json(work / "entry" / OUTCOME, {**kept, "metrics": outcome["metrics"]})
