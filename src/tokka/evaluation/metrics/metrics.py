"""Every quality figure of one model on one test set, as plain finite numbers.

    classification(target, scores)["f1_macro"]; regression(target, values)["mae"]

A metric that is undefined on these rows (ROC-AUC of a class without positives, R² of a constant target) is left
out of the answer; NaN never leaves this module. Macro averages run over the classes that occur in the target.
"""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokka.errors import TokkaError

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

HIGHER_IS_BETTER = {
    "accuracy": True,
    "precision_macro": True,
    "recall_macro": True,
    "f1_macro": True,
    "precision_weighted": True,
    "recall_weighted": True,
    "f1_weighted": True,
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "mae": False,
    "rmse": False,
    "r2": True,
    "pearson": True,
    "spearman": True,
}
# A probability of exactly zero on the truth would make the log loss infinite; scikit-learn clips at the type's epsilon.
SMALLEST_PROBABILITY = 1e-7
CALIBRATION_BINS = 15


def check_scores(scores: Floats, rows: int, who: str) -> None:
    """Refuse scores that are not a finite (rows, columns) matrix.

    Raises:
        TokkaError: another shape, or a value that is NaN or infinite; the first such row is named.
    """
    if scores.ndim != 2 or scores.shape[0] != rows or scores.shape[1] < 1:
        raise TokkaError(f"{who} gave scores of shape {scores.shape} for {rows} rows", "the model folder is damaged")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        raise TokkaError(
            f"{who} gave a score that is not finite on {broken.size} of {rows} rows, first on row {broken[0]}",
            "its weights or its training diverged: train it again",
        )


def classification(target: Integers, scores: Floats) -> dict[str, float]:
    """Metrics of probabilities.

    Args:
        target: (rows,) class numbers, each a column of `scores`.
        scores: (rows, classes) probabilities; a class that the model does not know is a column of zeros.

    Raises:
        TokkaError: no rows, or scores that are not finite.
    """
    from sklearn import metrics as sk

    check_scores(scores, len(target), "the model")
    if not len(target):
        raise TokkaError("there is no test row to evaluate on", "raise preprocessing.test_share or name data.test")
    predicted = scores.argmax(axis=1)
    present = np.unique(target)
    found = {"accuracy": float(sk.accuracy_score(target, predicted))}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            target, predicted, labels=present, average=average, zero_division=0.0
        )
        found |= {f"precision_{average}": precision, f"recall_{average}": recall, f"f1_{average}": f1}
    found |= _ranking(target, scores, present) | _probabilistic(target, scores)
    return _finite(found)


def regression(target: Floats, values: Floats) -> dict[str, float]:
    """Metrics of predicted numbers; `target` and `values` are (rows,).

    Raises:
        TokkaError: no rows, or values that are not finite.
    """
    from scipy import stats
    from sklearn import metrics as sk

    check_scores(np.asarray(values).reshape(len(values), -1), len(target), "the model")
    if not len(target):
        raise TokkaError("there is no test row to evaluate on", "raise preprocessing.test_share or name data.test")
    found = {
        "mae": float(sk.mean_absolute_error(target, values)),
        "rmse": float(sk.root_mean_squared_error(target, values)),
    }
    if np.ptp(target) > 0:
        found["r2"] = float(sk.r2_score(target, values))
    if np.ptp(target) > 0 and np.ptp(values) > 0:
        found["pearson"] = float(stats.pearsonr(target, values).statistic)
        found["spearman"] = float(stats.spearmanr(target, values).statistic)
    return _finite(found)


def per_class(target: Integers, predicted: Integers, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and rows of every class that occurs in the target, worst F1 first."""
    from sklearn.metrics import precision_recall_fscore_support

    present = np.unique(target)
    columns = precision_recall_fscore_support(target, predicted, labels=present, average=None, zero_division=0.0)
    found = [
        {"label": labels[number], "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for number, p, r, f, n in zip(present, *columns, strict=True)
    ]
    return sorted(found, key=lambda row: (row["f1"], row["label"]))


def calibration(target: Integers, scores: Floats) -> list[dict[str, float]]:
    """Bins of equal width in confidence: mean confidence, share right and rows of each bin that has any."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == target
    bins = confidence_bins(confidence)
    return [
        {
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
            "rows": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]


def confidence_bins(confidence: Floats) -> Integers:
    """The bin (0 … CALIBRATION_BINS - 1) of each confidence in [0, 1]; a boundary belongs to the lower bin."""
    return np.asarray(np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1))


def truth_probability(target: Integers, scores: Floats) -> Floats:
    """(rows,) probability given to the true class, clipped away from zero."""
    return np.clip(scores[np.arange(len(target)), target].astype(np.float64), SMALLEST_PROBABILITY, 1.0)


def brier_rows(target: Integers, scores: Floats) -> Floats:
    """(rows,) squared distance between the probabilities and the truth as a unit vector, in [0, 2]."""
    squares = (scores.astype(np.float64) ** 2).sum(axis=1)
    return np.asarray(squares + 1.0 - 2.0 * scores[np.arange(len(target)), target])


def _ranking(target: Integers, scores: Floats, present: Integers) -> dict[str, float]:
    """ROC-AUC and average precision, one class against the rest, averaged over the classes where both exist."""
    from sklearn import metrics as sk

    usable = [number for number in present if 0 < (target == number).sum() < len(target)]
    if not usable:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auc = [sk.roc_auc_score(target == number, scores[:, number]) for number in usable]
        precision = [sk.average_precision_score(target == number, scores[:, number]) for number in usable]
    return {"roc_auc": float(np.mean(auc)), "average_precision": float(np.mean(precision))}


def _probabilistic(target: Integers, scores: Floats) -> dict[str, float]:
    confidence, right = scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == target
    gaps = np.bincount(confidence_bins(confidence), weights=right - confidence, minlength=CALIBRATION_BINS)
    return {
        "log_loss": float(-np.log(truth_probability(target, scores)).mean()),
        "brier": float(brier_rows(target, scores).mean()),
        "ece": float(np.abs(gaps).sum() / len(target)),
    }


def _finite(found: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
