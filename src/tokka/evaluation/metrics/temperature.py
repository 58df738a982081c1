"""The candidate's calibration on test rows before and after its temperature (Guo et al., 2017).

before_and_after(target, scores, temperature=1.4, params=params)["before"]["ece"]["value"]
"""

import numpy as np

from tokka.evaluation.metrics import metrics, resampling
from tokka.evaluation.metrics.intervals import bootstrap
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.params import Params


def uncalibrated(scores: Floats, temperature: float) -> Floats:
    """The probabilities (rows, classes) that the model gives at a temperature of 1.

    softmax(z / T) raised to the power T is softmax(z) but for a factor, so that no second pass is needed.
    """
    raised = scores.astype(np.float64) ** temperature
    found: Floats = raised / raised.sum(axis=1, keepdims=True)
    return found


def before_and_after(target: Integers, scores: Floats, temperature: float, params: Params) -> dict[str, object]:
    """Calibration error and log loss with intervals, and the bins of a reliability diagram, before and after.

    Args:
        target: (rows,) class numbers.
        scores: (rows, classes) probabilities as the model serves them, after the temperature.
    """
    raw = uncalibrated(scores, temperature)
    return {
        "temperature": temperature,
        "before": {**_figures(target, raw, params), "bins": metrics.calibration(target, raw)},
        "after": {**_figures(target, scores, params), "bins": metrics.calibration(target, scores)},
    }


def _figures(target: Integers, scores: Floats, params: Params) -> dict[str, dict[str, float]]:
    found = bootstrap(resampling.classification_statistics(target, scores, ranking=False), len(target), params)
    return {name: found[name] for name in ("ece", "log_loss", "brier") if name in found}
