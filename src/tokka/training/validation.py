"""The figures that steer training: on validation rows, never on test rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

# The one that early stopping reads, by task, and whether more of it is better.
STEERING = {"classification": ("accuracy", True), "regression": ("mae", False)}


def validation_metrics(task: str, outputs: Floats, targets: Any) -> dict[str, float]:
    """Loss, metrics and the standard error of the steering one.

    Args:
        task: classification or regression.
        outputs: (rows, labels) logits, or (rows, 1) values.
        targets: (rows,) class numbers, or values.
    """
    if task == "regression":
        return _regression(outputs[:, 0].astype(np.float64), np.asarray(targets, dtype=np.float64))
    return _classification(outputs.astype(np.float64), np.asarray(targets))


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Log-probabilities (rows, labels) of logits, without overflow."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _classification(logits: Floats, targets: NDArray[np.int64]) -> dict[str, float]:
    predicted, rows = logits.argmax(axis=1), len(targets)
    accuracy = float((predicted == targets).mean())
    return {
        "loss": float(-log_softmax(logits)[np.arange(rows), targets].mean()),
        "accuracy": accuracy,
        "f1_macro": _f1_macro(predicted, targets),
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / rows)),
    }


def _f1_macro(predicted: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """The mean F1 over the classes that occur among the targets."""
    scores = []
    for label in np.unique(targets):
        hit = int(((predicted == label) & (targets == label)).sum())
        scores.append(2 * hit / (int((predicted == label).sum()) + int((targets == label).sum())))
    return float(np.mean(scores))


def _regression(values: NDArray[np.float64], targets: NDArray[np.float64]) -> dict[str, float]:
    errors = values - targets
    spread = float(((targets - targets.mean()) ** 2).sum())
    return {
        "loss": float((errors**2).mean()),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "r2": 1 - float((errors**2).sum()) / spread if spread else 0.0,
        "standard_error": float(np.abs(errors).std() / np.sqrt(len(errors))),
    }
