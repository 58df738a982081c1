"""Make confidences honest: one temperature, fitted on validation rows (Guo et al., 2017, "On Calibration of Modern
Neural Networks")."""

import numpy as np

from tokka.training.fit.validation import Floats
from tokka.training.setup.datamodule import Targets

LOWEST, HIGHEST = 0.05, 20.0
BINS = 15


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """The temperature that minimises the log loss of softmax(logits / temperature).

    Args:
        logits: (rows, labels).
        targets: (rows,) class numbers.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        scaled = log_softmax((logits / np.exp(log_temperature)).astype(np.float64), axis=1)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return round(float(np.exp(found.x)), 6)


def expected_calibration_error(logits: Floats, targets: Targets, temperature: float = 1.0) -> float:
    """The mean gap between confidence and accuracy over BINS bins of equal width, weighted by rows.

    Args:
        logits: (rows, labels).
        targets: (rows,) class numbers.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    # Given logits it would take a softmax of its own, but guesses from their range whether they are logits.
    scores = torch.softmax(torch.from_numpy(np.asarray(logits, np.float64)) / temperature, dim=1)
    truth = torch.from_numpy(np.asarray(targets, np.int64))
    return float(multiclass_calibration_error(scores, truth, num_classes=scores.shape[1], n_bins=BINS, norm="l1"))
