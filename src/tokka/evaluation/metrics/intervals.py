"""Bootstrap intervals: the percentile method over seeded resamples.

intervals({"accuracy": 0.93}, drawn, confidence=0.95)["accuracy"].low
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from tokka.evaluation.metrics.metrics import Floats

# A metric that so many resamples leave undefined has no interval worth the name.
MINIMUM_DEFINED = 0.9


@dataclass(frozen=True)
class Interval:
    """A value and the bounds that hold it with the stated confidence; always finite, low <= value <= high."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Plain data for evaluation.json."""
        return asdict(self)


def interval(value: float, drawn: Floats, confidence: float) -> Interval | None:
    """The percentile interval of `drawn` (resamples,), widened to hold `value`; None when undefined too often.

    Widening matters for biased statistics alone, such as the calibration error: resampling adds noise to each
    bin, so every resample may lie above the value itself.
    """
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(defined) < max(1, MINIMUM_DEFINED * len(drawn)):
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined.astype(np.float64), [tail, 1.0 - tail])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def intervals(values: Mapping[str, float], drawn: Mapping[str, Floats], confidence: float) -> dict[str, Interval]:
    """The interval of every metric in `values` that was drawn; a metric without an interval is left out."""
    found = {name: interval(value, drawn[name], confidence) for name, value in values.items() if name in drawn}
    return {name: bounds for name, bounds in found.items() if bounds is not None}
