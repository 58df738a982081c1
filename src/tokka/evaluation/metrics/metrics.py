"""The names of the metrics, and what several of them are made of: confidence bins, the truth's probability.

The metrics themselves are computed in resampling.py, for the rows as they are and for resamples alike.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokka.errors import TokkaError

# numpy has no other word for "of any width".
Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Name, whether more is better, and whether it is a share that reads best as a percentage; in the report's order.
METRICS: dict[str, tuple[str, bool, bool]] = {
    "accuracy": ("Accuracy", True, True),
    "f1_macro": ("F1, macro", True, True),
    "f1_weighted": ("F1, weighted", True, True),
    "precision_macro": ("Precision, macro", True, True),
    "precision_weighted": ("Precision, weighted", True, True),
    "recall_macro": ("Recall, macro", True, True),
    "recall_weighted": ("Recall, weighted", True, True),
    "roc_auc": ("ROC-AUC, one against the rest", True, True),
    "average_precision": ("Average precision", True, True),
    "ece": ("Calibration error (ECE)", False, True),
    "log_loss": ("Log loss", False, False),
    "brier": ("Brier score", False, False),
    "mae": ("Mean absolute error", False, False),
    "rmse": ("Root mean squared error", False, False),
    "r2": ("R²", True, False),
    "pearson": ("Pearson correlation", True, False),
    "spearman": ("Spearman correlation", True, False),
}
HIGHER_IS_BETTER = {metric: higher for metric, (_, higher, _) in METRICS.items()}
# A probability of exactly zero on the truth would make the log loss infinite; scikit-learn clips at the type's epsilon.
SMALLEST_PROBABILITY = 1e-7
CALIBRATION_BINS = 15


def check_scores(scores: Floats, rows: int, who: str) -> None:
    """Refuse scores that are not a finite (rows, columns) matrix.

    TokkaError for another shape, or a value that is NaN or infinite; the first such row is named.
    """
    if scores.ndim != 2 or scores.shape[0] != rows or scores.shape[1] < 1:
        raise TokkaError(f"{who} gave scores of shape {scores.shape} for {rows} rows", "the model folder is damaged")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if broken.size:
        raise TokkaError(
            f"{who} gave a score that is not finite on {broken.size} of {rows} rows, first on row {broken[0]}",
            "its weights or its training diverged: train it again",
        )


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
