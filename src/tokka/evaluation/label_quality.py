"""Data insight: training rows whose label is probably wrong, near-duplicates that disagree, test rows seen before.

Label errors by confident learning (Northcutt et al., 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels") on out-of-fold probabilities of a linear head on the *un-tuned* encoder: the specialist has been trained on
these very labels, the wrong ones included, and would call them right. A suspicion, not a verdict: a person decides.

Nothing here stops an evaluation: what cannot be computed says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokka.data.preparation.prepared import Prepared
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import pairs, sample_rows
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
Insight = dict[str, object]


def evaluate_insight(data: Prepared, params: Params, overlap: Mapping[str, int], cache: Path) -> Insight:
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


def look_into(data: Prepared, embed: Embed, overlap: Mapping[str, int], seed: int) -> Insight:
    """Every insight on the training rows, each either computed or `{"problem": why not}`.

    `embed`: texts and second texts to unit-length features (rows, hidden); `overlap`: test rows that training holds
    too, as `test_set.overlap` counts them.
    """
    began, doubtful = time.monotonic(), label_errors if data.labels else value_errors
    return {
        "errors": _or_why_not(lambda: doubtful(data, embed, seed)),
        "duplicates": _or_why_not(lambda: duplicates(data, seed)),
        "overlap": dict(overlap),
        "seconds": round(time.monotonic() - began, 2),
    }


def label_errors(data: Prepared, embed: Embed, seed: int) -> Insight:
    """Training rows whose given label the other folds contradict, the least believed first.

    Classes with fewer rows than folds are left out: they cannot be learned without the row in question.
    """
    from cleanlab.filter import find_label_issues

    table = _sample(data, ERROR_ROWS, seed)
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


def value_errors(data: Prepared, embed: Embed, seed: int) -> Insight:
    """Training rows whose value is farthest from what the other folds expect."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    from tokka.training.setup.warm_start import RIDGE_PENALTIES

    table = _sample(data, ERROR_ROWS, seed)
    given = np.asarray(table.column("target").to_pylist(), np.float64)
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    expected = cross_val_predict(RidgeCV(RIDGE_PENALTIES), _features(table, embed), given, cv=folds)
    residuals = np.abs(given - expected)
    far = FAR * max(float((given - expected).std()), np.finfo(np.float64).tiny)
    flagged, texts = int((residuals > far).sum()), _texts(table)
    worst = np.argsort(-residuals, kind="stable")[: min(TOP, max(flagged, TOP_DUPLICATES))]
    return {
        "kind": "values",
        "rows": len(given),
        "of": data.train.num_rows,
        "flagged": flagged,
        "share": flagged / len(given),
        "top": [{"text": texts[row], "given": _named(given[row]), "suggested": _named(expected[row])} for row in worst],
    }


def duplicates(data: Prepared, seed: int) -> Insight:
    """Pairs of training rows that read nearly the same and have different targets, the most alike first."""
    from tokka.data.preparation.near import near_pairs

    table = _sample(data, DUPLICATE_ROWS, seed)
    targets, near = table.column("target").to_pylist(), near_pairs(_whole(table, "\n"), NEAR)
    if data.labels:
        found = [pair for pair in near if targets[pair[0]] != targets[pair[1]]]
    else:
        apart = APART * float(np.std(targets))
        found = [pair for pair in near if abs(targets[pair[0]] - targets[pair[1]]) > apart]
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


def _suspect(table: pa.Table, classes: NDArray[np.str_], given: Integers, probabilities: Floats, row: int) -> Insight:
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


def _sample(data: Prepared, most: int, seed: int) -> pa.Table:
    return data.train.take(sample_rows(data.train.num_rows, most, seed))


def _whole(table: pa.Table, separator: str) -> list[str]:
    """Each row's text, and its second text after the separator where the task has pairs."""
    texts: list[str] = table.column("text").to_pylist()
    seconds = pairs(table)
    return [separator.join(both) for both in zip(texts, seconds, strict=True)] if seconds else texts


def _texts(table: pa.Table) -> list[str]:
    return [text[:TEXT_CHARACTERS] for text in _whole(table, " / ")]


def _named(target: str | float) -> str:
    return target if isinstance(target, str) else f"{target:.4g}"


def _or_why_not(compute: Callable[[], Insight]) -> Insight:
    try:
        return compute()
    except Exception as error:  # whatever a library raises on odd data: an evaluation is worth more than its insight
        return {"problem": f"not computed: {' '.join(str(error).split())[:200] or type(error).__name__}"}
