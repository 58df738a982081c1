"""What every judge says: a verdict, the reasons for it, and the numbers behind it."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

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

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {"verdict": self.verdict, "reasons": list(self.reasons), "values": self.values}


def e_value(log_e: float) -> float:
    """The e-value of its logarithm, as it is written down."""
    return round(math.exp(min(log_e, HIGHEST_LOG)), 6)


def unproven(name: str, margin: float, log_e: float, alpha: float) -> str:
    """Why a promotion waits: nothing speaks against it, and not enough for it."""
    e_values = f"e-value {e_value(log_e):.3g} of {1 / alpha:g}"
    return f"not yet proven that {NAMES[name]} are less than {margin:.1%} more frequent ({e_values})"
