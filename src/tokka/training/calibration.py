"""Make confidences honest: one temperature, fitted on validation rows (Guo et al., 2017)."""

from typing import Any

import numpy as np

from tokka.training.validation import Floats, log_softmax

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: Floats, targets: Any) -> float:
    """The temperature that minimises the log loss of softmax(logits / temperature).

    Args:
        logits: (rows, labels).
        targets: (rows,) class numbers.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature))
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return round(float(np.exp(found.x)), 6)


def expected_calibration_error(logits: Floats, targets: Any, temperature: float = 1.0, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy over equal-width bins, weighted by rows."""
    probabilities = np.exp(log_softmax(logits / temperature))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (places == place).mean() * abs(confidence[places == place].mean() - right[places == place].mean())
        for place in np.unique(places)
    ]
    return float(np.sum(gaps))
