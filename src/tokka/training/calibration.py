"""Make confidences honest: one temperature, fitted on validation rows (Guo et al., 2017)."""

import numpy as np

from tokka.training.fit.validation import Floats
from tokka.training.setup.datamodule import Targets

LOWEST, HIGHEST = 0.05, 20.0
BINS = 15
# Of prediction sets: how often the truth is among them.
LEVELS = (0.8, 0.9, 0.95, 0.99)


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """The temperature of least log loss of softmax(logits (rows, labels) / temperature), class numbers (rows,)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        scaled = log_softmax((logits / np.exp(log_temperature)).astype(np.float64), axis=1)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return round(float(np.exp(found.x)), 6)


def conformal_limits(logits: Floats, targets: Targets, temperature: float) -> dict[str, float]:
    """By level: the least probability of a class in a prediction set that holds the truth at that level.

    Split conformal prediction (Vovk et al., 2005; the score of Sadinle et al., 2019) on the validation rows: logits
    (rows, labels), class numbers (rows,). 0, and so every class, where there are too few rows for a level.
    """
    from scipy.special import softmax

    scores = softmax((logits / temperature).astype(np.float64), axis=1)[np.arange(len(targets)), targets]
    ordered, found = np.sort(scores), {}
    for level in LEVELS:
        # So many of n + 1 rows may lie below: the next one is one of them.
        below = int(np.floor((len(ordered) + 1) * (1 - level) + 1e-9))
        # Rounded down, for serving computes in float32.
        found[f"{level:g}"] = float(np.floor(ordered[below - 1] * 1e6) / 1e6) if below else 0.0
    return found


def expected_calibration_error(logits: Floats, targets: Targets, temperature: float = 1.0) -> float:
    """The mean gap between confidence and accuracy over BINS equal bins; logits (rows, labels), targets (rows,)."""
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    # Given logits it would take a softmax of its own, but guesses from their range whether they are logits.
    scores = torch.softmax(torch.from_numpy(np.asarray(logits, np.float64)) / temperature, dim=1)
    truth = torch.from_numpy(np.asarray(targets, np.int64))
    return float(multiclass_calibration_error(scores, truth, num_classes=scores.shape[1], n_bins=BINS, norm="l1"))
