"""What an A/B test knows: a confidence sequence per metric for challenger minus champion.

Each interval holds the true difference at all times together, however often one looks, with probability 1 - alpha over
all metrics: whatever difference the betting e-process of `e_processes.against_difference` rejects is outside, and stays
outside (Waudby-Smith and Ramdas, 2024; requests are weighted by the logged split, so the share may change).

It takes the difference as constant while the test runs; the rates may drift. A user stays on one side, so the first
request of each stands for all of them: the split draws users, not requests. Feedback counts in the order in which it
came.
"""

import bisect
import math
from dataclasses import dataclass

import numpy as np

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.judge.evidence import Traffic

METRICS = ("errors", "slow", "wrong")
# Of the bounds that are looked at: exact to a ten-thousandth.
STEPS = 2**14


@dataclass(frozen=True)
class Difference:
    """Rates of one metric on both sides, each in [0, 1], and the confidence sequence of their difference.

    difference, low, high: challenger minus champion; negative is better. requests: those on which it is known.
    """

    requests: int
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided`, of the challenger."""
        return "worse" if self.low > 0 else "better" if self.high < 0 else "undecided"


def measure(traffic: Traffic, alpha: float) -> dict[str, Difference]:
    """One confidence sequence per metric; without a request it is all of [-1, 1].

    `traffic` has the requests since the test began; with probability `alpha` any of the intervals is ever wrong.
    """
    drawn = traffic.usable().split().drawn().answered()
    return {name: _difference(drawn.known(name), name, alpha / len(METRICS)) for name in METRICS}


def _difference(known: Traffic, name: str, alpha: float) -> Difference:
    event = known.metrics[name]
    sides = (event[known.canary == side] for side in (0, 1))
    champion, challenger = (float(side.mean()) if side.size else None for side in sides)
    both = None if champion is None or challenger is None else challenger - champion
    high, low = (_bound(event, known, alpha / 2, above=above) for above in (True, False))
    return Difference(known.size, champion, challenger, both, low, high)


def _bound(event: Floats, traffic: Traffic, alpha: float, *, above: bool) -> float:
    """The outermost difference that is not rejected, on one side; by bisection, since rejection is monotone."""
    bounds = np.linspace(*((-1.0, 1.0) if above else (1.0, -1.0)), STEPS + 1)

    def rejected(bound: float) -> bool:
        log_e = e_processes.against_difference(bound, event, traffic.canary, traffic.share, above=above)
        return e_processes.highest(log_e) >= math.log(1.0 / alpha)

    return float(bounds[bisect.bisect_left(bounds[:-1], True, lo=1, key=rejected)])
