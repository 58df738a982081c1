"""Data insight: training rows whose label is probably wrong, near-duplicates that disagree, test rows seen before.

    found = look_into(data, embed, overlap, seed=7)
    found["errors"]["flagged"], found["errors"]["top"][0]["suggested"]

Label errors by confident learning (Northcutt et al., 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels") on out-of-fold probabilities of a linear head on the *un-tuned* encoder: the specialist has been trained on
these very labels, the wrong ones included, and would call them right. A suspicion, not a verdict: a person decides.

Nothing here stops an evaluation: what cannot be computed says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import pairs
from tokka.params import Params

# What bounds the cost: embedding and five fits over this many rows take seconds, and a sample tells the share of all.
ERROR_ROWS = 4000
DUPLICATE_ROWS = 8000
FOLDS = 5
TOP = 20
TOP_DUPLICATES = 10
NEAR = 0.8
# Beyond so many standard deviations of all residuals a value is suspected.
FAR = 3.0
# Two values differ when they are this far apart, in standard deviations of the targets.
APART = 1.0
TEXT_CHARACTERS = 240

Embed = Callable[[Sequence[str], Sequence[str] | None], Floats]


def evaluate_insight(data: Any, params: Params, overlap: Mapping[str, int], cache: Path) -> dict[str, Any]:
    """details.insight of a prepared data set; the encoder is the base model as it came."""

    def embed(texts: Sequence[str], seconds: Sequence[str] | None) -> Floats:
        import torch

        from tokka.evaluation.models.zero_shot import FrozenEncoder
        from tokka.model.base import resolve_base
        from tokka.training.setup.precision import has_fast_bf16

        encoder = FrozenEncoder(resolve_base(params.model, cache).path, params.model.max_tokens)
        # A third of the time where the processor has it, and as good for an order of suspicion.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bf16()):
            return encoder.embed(texts, seconds)

    return look_into(data, embed, overlap, params.finetuning.seed)


def look_into(data: Any, embed: Embed, overlap: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Every insight, each either computed or `{"problem": why not}`.

    Args:
        data: a `Prepared`; its training rows are looked at.
        embed: texts and second texts to unit-length features (rows, hidden).
        overlap: test rows that training holds too, as `testset.overlap` counts them.
    """
    began = time.monotonic()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "errors": lambda: label_errors(data, embed, seed) if data.labels else value_errors(data, embed, seed),
        "duplicates": lambda: duplicates(data, seed),
    }
    found = {name: _or_why_not(compute) for name, compute in parts.items()}
    return {**found, "overlap": dict(overlap), "seconds": round(time.monotonic() - began, 2)}


def label_errors(data: Any, embed: Embed, seed: int) -> dict[str, Any]:
    """Training rows whose given label the other folds contradict, the least believed first.

    Classes with fewer rows than folds are left out: nobody could learn them without the row in question.
    """
    from cleanlab.filter import find_label_issues

    table = _sample(data.train, ERROR_ROWS, seed)
    names = np.asarray(table.column("target").to_pylist(), dtype=str)
    classes, counts = np.unique(names, return_counts=True)
    kept = np.flatnonzero(np.isin(names, classes[counts >= FOLDS]))
    table, names = table.take(kept), names[kept]
    classes, given = np.unique(names, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"fewer than two classes have {FOLDS} training rows")
    probabilities = _out_of_fold(_features(table, embed), given, seed)
    # One process: a pool would cost more than it saves, and the order of its answers is not promised.
    flagged = find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return {
        "kind": "labels",
        "rows": len(names),
        "of": data.train.num_rows,
        "flagged": len(flagged),
        "share": len(flagged) / len(names),
        "agreement": float((probabilities.argmax(axis=1) == given).mean()),
        "top": [_suspect(table, classes, given, probabilities, int(row)) for row in flagged[:TOP]],
    }


def value_errors(data: Any, embed: Embed, seed: int) -> dict[str, Any]:
    """Training rows whose value is farthest from what the other folds expect."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    from tokka.training.setup.warm_start import RIDGE_PENALTIES

    table = _sample(data.train, ERROR_ROWS, seed)
    given = np.asarray(table.column("target").to_pylist(), np.float64)
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    expected = cross_val_predict(RidgeCV(RIDGE_PENALTIES), _features(table, embed), given, cv=folds)
    residuals = np.abs(given - expected)
    far = FAR * max(float((given - expected).std()), np.finfo(np.float64).tiny)
    flagged, texts = int((residuals > far).sum()), _texts(table)
    worst = np.argsort(-residuals, kind="stable")[: min(TOP, max(flagged, TOP_DUPLICATES))]
    top = [{"text": texts[row], "given": f"{given[row]:.4g}", "suggested": f"{expected[row]:.4g}"} for row in worst]
    share = flagged / len(given)
    return {
        "kind": "values", "rows": len(given), "of": data.train.num_rows, "flagged": flagged, "share": share, "top": top
    }  # fmt: skip


def duplicates(data: Any, seed: int) -> dict[str, Any]:
    """Pairs of training rows that read nearly the same and have different targets, the most alike first."""
    from tokka.data.preparation.deduplication import near_pairs

    table = _sample(data.train, DUPLICATE_ROWS, seed)
    targets, seconds = table.column("target").to_pylist(), pairs(table)
    texts = table.column("text").to_pylist()
    whole = [f"{text}\n{second}" for text, second in zip(texts, seconds, strict=True)] if seconds else texts
    apart = 0.0 if data.labels else APART * float(np.std(targets))

    def differ(one: Any, other: Any) -> bool:
        return bool(one != other if data.labels else abs(one - other) > apart)

    near = near_pairs(whole, NEAR)
    found = [pair for pair in near if differ(targets[pair[0]], targets[pair[1]])]
    shown = _texts(table)
    return {
        "rows": table.num_rows,
        "of": data.train.num_rows,
        "near": len(near),
        "pairs": len(found),
        "top": [
            {"similarity": round(alike, 3), "texts": [shown[one], shown[other]],
             "targets": [_named(targets[one]), _named(targets[other])]}
            for one, other, alike in found[:TOP_DUPLICATES]
        ],
    }  # fmt: skip


def _out_of_fold(features: Floats, given: Integers, seed: int) -> Floats:
    """(rows, classes) probabilities, each row's by a head that has not seen it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from tokka.training.setup.warm_start import REGULARISATION

    head = LogisticRegression(C=REGULARISATION, max_iter=200, tol=1e-3)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # On matrices this small the threads of a busy machine wait for each other: ten times slower with two than with one.
    with threadpool_limits(1, user_api="blas"):
        return np.asarray(cross_val_predict(head, features, given, cv=folds, method="predict_proba"))


def _suspect(table: pa.Table, classes: Any, given: Integers, probabilities: Floats, row: int) -> dict[str, Any]:
    suggested = int(probabilities[row].argmax())
    return {
        "text": _texts(table.slice(row, 1))[0],
        "given": str(classes[given[row]]),
        "suggested": str(classes[suggested]),
        "given_probability": round(float(probabilities[row, given[row]]), 4),
        "probability": round(float(probabilities[row, suggested]), 4),
    }


def _features(table: pa.Table, embed: Embed) -> Floats:
    from tokka.model.network import FEATURE_SCALE

    return np.asarray(FEATURE_SCALE * embed(table.column("text").to_pylist(), pairs(table)), np.float32)


def _sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    if table.num_rows <= most:
        return table
    return table.take(np.sort(np.random.default_rng(seed).choice(table.num_rows, most, replace=False)))


def _texts(table: pa.Table) -> list[str]:
    """What is shown of each row."""
    texts, seconds = table.column("text").to_pylist(), pairs(table)
    if seconds:
        texts = [f"{text} / {second}" for text, second in zip(texts, seconds, strict=True)]
    return [text[:TEXT_CHARACTERS] for text in texts]


def _named(target: Any) -> str:
    return target if isinstance(target, str) else f"{float(target):.4g}"


def _or_why_not(compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return compute()
    except Exception as error:  # whatever a library raises on odd data: an evaluation is worth more than its insight
        return {"problem": f"not computed: {' '.join(str(error).split())[:200] or type(error).__name__}"}
