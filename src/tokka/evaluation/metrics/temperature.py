"""The candidate's calibration on test rows before and after its temperature (Guo et al., 2017)."""

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

    `target`: (rows,) class numbers; `scores`: (rows, classes) probabilities as the model serves them, after the
    temperature.
    """
    moments = {"before": uncalibrated(scores, temperature), "after": scores}
    figures = {when: _figures(target, given, params) for when, given in moments.items()}
    bins = {when: metrics.calibration(target, given) for when, given in moments.items()}
    return {"temperature": temperature} | {when: {**figures[when], "bins": bins[when]} for when in moments}


def _figures(target: Integers, scores: Floats, params: Params) -> dict[str, dict[str, float]]:
    found = bootstrap(resampling.classification_statistics(target, scores, ranking=False), len(target), params)
    return {name: found[name] for name in ("ece", "log_loss", "brier") if name in found}
