"""E-processes: evidence against a claim that stays valid however often, and whenever, one looks at it.

Under the claim (the null hypothesis) an e-process starts at 1 and does not grow on average, so by Ville's inequality
it ever reaches 1 / alpha with probability at most alpha: reject then. All functions return the logarithm after each
observation, shape (n,), so that long evidence does not overflow.

Sources: Lindon and Malek (2022), anytime-valid inference for multinomial count data; Waudby-Smith and Ramdas
(2024), estimating means of bounded random variables by betting.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# How many times likelier an event may be on the canary than on the champion; a mixture, each with the same prior.
RATIOS = np.array([1.5, 2.0, 3.0, 5.0, 8.0, 12.0])
# Stakes of the bettors, as parts of their capital; a mixture, since the effect is not known beforehand.
STAKES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])


def excess_on_canary(on_canary: Floats, share: Floats) -> Floats:
    """Evidence against "an event is as likely on the canary as on the champion".

    Args:
        on_canary: (n,) 1 where the event (a failure, a slow answer, a wrong label) was on the canary, else 0.
        share: (n,) the canary's share of traffic at that moment, in [0, 1]; it may change at any time.

    Only events count, so the base rate may drift as it likes. With p = r w / (r w + 1 - w) the factor
    (p/w)^x ((1-p)/(1-w))^(1-x) is r^x / (r w + 1 - w).
    """
    shift = np.log(np.outer(share, RATIOS - 1.0) + 1.0)
    return _log_mean(np.outer(on_canary, np.log(RATIOS)) - shift)


def against_excess_of(margin: float, event: Floats, on_canary: Floats, share: Floats) -> Floats:
    """Evidence against "events are more frequent on the canary by `margin` or more" (so: in favour of promoting it).

    Args:
        margin: a difference of rates, in (0, 1].
        event: (n,) 1 where the request failed (was slow, was wrong), else 0; every request counts, not only events.
        on_canary, share: (n,) as above; share in (0, 1).

    The stake is a part of the share w, so that the capital stays positive: 1 + stake * w * (margin - z).
    """
    return _bet(share * (margin - _weighted(event, on_canary, share)))


def against_no_worse(difference: Floats) -> Floats:
    """Evidence against "the challenger is at least as good": mean over stakes of prod(1 - stake * difference).

    `difference`, (n,) in [-1, 1], is the champion's loss minus the challenger's; 0 where nothing is known.
    """
    return _bet(-difference)


def against_worse_by(difference: Floats, margin: float) -> Floats:
    """Evidence against "the challenger is worse by `margin`, in (0, 1), or more" (so: in favour of promoting it).

    `difference` as above; where it is not known, the worst that it can be.
    """
    return _bet((difference + margin) / (1.0 + margin))


def against_disagreement(disagreement: Floats, margin: float) -> Floats:
    """Evidence against "they disagree, (n,) in [0, 1], on `margin` or more", which needs no label."""
    return _bet(margin - disagreement)


def above_limit(event: Floats, limit: float) -> Floats:
    """Evidence against "events, (n,) 0 or 1, happen at a rate of `limit`, in (0, 1), at most"."""
    return _bet(event - limit)


def against_difference(bound: float, event: Floats, on_canary: Floats, share: Floats, *, above: bool) -> Floats:
    """Evidence against "the canary's rate minus the champion's is `bound` or more" (`above`), "or less" (not).

    Args:
        bound: in [-1, 1].
        event, on_canary, share: (n,) as in `against_excess_of`; share in (0, 1).

    z lies in [-1 / (1 - w), 1 / w]. The stakes are parts of the largest that keeps the capital positive for every
    bound, so that what is tested is monotone in the bound.
    """
    z = _weighted(event, on_canary, share)
    return _bet((bound - z) * share / (1.0 + share) if above else (z - bound) * (1.0 - share) / (2.0 - share))


def highest(log_e: Floats) -> float:
    """The highest level that was ever reached; 0 (an e-value of 1, no evidence) when there is no observation."""
    return max(0.0, float(log_e.max())) if log_e.size else 0.0


def _bet(payoff: Floats) -> Floats:
    """The capital of bettors who stake a part of it on each payoff, of (n,), in [-1, 1]."""
    return _log_mean(np.log1p(np.outer(payoff, STAKES)))


def _log_mean(increments: Floats) -> Floats:
    """The logarithm of the mean capital of all bettors, (n, bettors) increments to (n,)."""
    mean: Floats = np.logaddexp.reduce(np.cumsum(increments, axis=0), axis=1) - np.log(increments.shape[1])
    return mean


def _weighted(event: Floats, on_canary: Floats, share: Floats) -> Floats:
    """(n,) z: its mean is the canary's rate of events minus the champion's, whatever else changes.

    With w the share, x the assignment, which is random, and y the event: z = y x / w - y (1 - x) / (1 - w).
    """
    return event * (on_canary / share - (1.0 - on_canary) / (1.0 - share))
