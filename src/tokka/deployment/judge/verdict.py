"""What every judge says: a verdict, the reasons for it, and the numbers behind it."""

import math
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["promote", "roll_back", "hold"]

# What can end a rollout; each gets an equal part of alpha.
METRICS = ("quality", "speed", "errors", "slow", "wrong", "refused")
NAMES = {"errors": "failures", "slow": "slow answers", "wrong": "wrong labels", "refused": "refused requests"}
# Bounds what JSON has to hold; e**690 is about 1e299.
HIGHEST_LOG = 690.0


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and the numbers behind it (e-values by metric, their thresholds as `<metric>_limit`, counts)."""

    verdict: Verdict
    reasons: tuple[str, ...]
    values: dict[str, float] = field(default_factory=dict)

    def if_proven(self, name: str, metric: str, margin: float, log_e: float, alpha: float) -> "Judgement":
        """The same where `log_e` proves that `metric` is less than `margin` more frequent, else on hold.

        `name` is that of the e-value among `values`.
        """
        found, wanted = e_value(log_e), 1.0 / alpha
        values = {**self.values, f"{name}_proof": found, f"{name}_proof_limit": wanted}
        if log_e >= math.log(wanted):
            return Judgement(self.verdict, self.reasons, values)
        missing = f"not yet proven that {NAMES[metric]} are less than {margin:.1%} more frequent"
        return Judgement("hold", (f"{missing} (e-value {found:.3g} of {wanted:g})", *self.reasons), values)


def e_value(log_e: float) -> float:
    """The e-value of its logarithm, as it is written down."""
    return round(math.exp(min(log_e, HIGHEST_LOG)), 6)
