"""Make confidences honest: one temperature, fitted on validation rows (Guo et al., 2017, "On Calibration of Modern
Neural Networks")."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokka.training.fit.validation import Floats

LOWEST, HIGHEST = 0.05, 20.0
BINS = 15


def fit_temperature(logits: Floats, targets: Any) -> float:
    """The temperature that minimises the log loss of softmax(logits / temperature).

    Args:
        logits: (rows, labels).
        targets: (rows,) class numbers.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = _log_softmax(logits / np.exp(log_temperature))
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return round(float(np.exp(found.x)), 6)


def expected_calibration_error(logits: Floats, targets: Any, temperature: float = 1.0, bins: int = BINS) -> float:
    """The mean gap between confidence and accuracy over equal-width bins, weighted by rows.

    Args:
        logits: (rows, labels).
        targets: (rows,) class numbers.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    # Given logits it would take a softmax of its own, but guesses from their range whether they are logits.
    scores = torch.softmax(torch.from_numpy(np.asarray(logits, np.float64)) / temperature, dim=1)
    truth = torch.from_numpy(np.asarray(targets, np.int64))
    return float(multiclass_calibration_error(scores, truth, num_classes=scores.shape[1], n_bins=bins, norm="l1"))


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    from scipy.special import log_softmax

    found: NDArray[np.float64] = log_softmax(logits.astype(np.float64), axis=1)
    return found
