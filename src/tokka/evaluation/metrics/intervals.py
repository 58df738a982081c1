"""Intervals of one figure: the bootstrap's percentiles, Wilson's of a share, Student's of a mean."""

from collections.abc import Mapping

import numpy as np

from tokka.evaluation.metrics import resampling
from tokka.evaluation.metrics.metrics import Floats
from tokka.evaluation.metrics.resampling import Statistics
from tokka.params import Params

Bounds = dict[str, float]
# A metric that so many resamples leave undefined has no interval worth the name.
MINIMUM_DEFINED = 0.9


def bounds(value: float, low: float, high: float) -> Bounds:
    """The interval as plain data, widened to hold its value."""
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def interval(value: float, drawn: Floats, confidence: float) -> Bounds | None:
    """The percentile interval of `drawn` (resamples,); None when undefined too often.

    Widening it matters for biased statistics alone, such as the calibration error: resampling adds noise to each bin,
    so every resample may lie above the value itself.
    """
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(defined) < max(1, MINIMUM_DEFINED * len(drawn)):
        return None
    tail = (1.0 - confidence) / 2.0
    return bounds(value, *np.quantile(defined.astype(np.float64), [tail, 1.0 - tail]))


def intervals(values: Mapping[str, float], drawn: Mapping[str, Floats], confidence: float) -> dict[str, Bounds]:
    """The interval of every metric in `values` that was drawn; a metric without an interval is left out."""
    found = {name: interval(value, drawn[name], confidence) for name, value in values.items() if name in drawn}
    return {name: bounds for name, bounds in found.items() if bounds is not None}


def bootstrap(statistics: Statistics, rows: int, params: Params) -> dict[str, Bounds]:
    """Every metric with its interval from evaluation.bootstrap resamples; what is undefined is left out.

    The value itself is the resample that has every row once, in double precision.
    """
    values = {name: float(found[0]) for name, found in statistics(np.ones((1, rows))).items()}
    drawn = resampling.draw(statistics, rows, params.evaluation.bootstrap, params.finetuning.seed)
    return intervals(values, drawn, params.evaluation.confidence)


def share_interval(right: int, rows: int, confidence: float) -> Bounds:
    """A share with Wilson's interval."""
    from scipy.stats import binomtest

    return bounds(right / rows, *binomtest(right, rows).proportion_ci(confidence, method="wilson"))


def mean_interval(values: Floats, confidence: float) -> tuple[float, float, float]:
    """Mean, low and high of Student's interval; needs two rows or more."""
    from scipy.stats import t

    rows, mean = len(values), float(values.mean())
    reach = float(t.ppf(0.5 + confidence / 2.0, rows - 1) * values.std(ddof=1) / np.sqrt(rows))
    return mean, mean - reach, mean + reach
