"""The judge of the shadow: pure, and valid however often one asks. `promote` means: go on to live traffic."""

import math

import numpy as np

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.judge.evidence import Pairs
from tokka.deployment.judge.verdict import METRICS, Judgement, e_value
from tokka.sections_serving import Canary

# So many more losses than wins on live inputs are no proof, but hold what replayed rows alone would promote.
LIVE_LOSS = 3.0


def judge_pairs(pairs: Pairs, canary: Canary) -> Judgement:
    """The shadow: is the challenger proven worse or slower, or proven not worse by `quality_margin`, nor slower?

    That slow answers are less than `slow_margin` more frequent need not be proven where no further input can be had:
    live traffic is asked for the same proof before the promotion.

    Labels are not needed where both agree. Where they disagree and no label came, promoting assumes the worst
    and rolling back assumes nothing.
    """
    limit = len(METRICS) / canary.alpha
    speed = np.where(np.abs(pairs.speed) <= 1, pairs.speed, 0.0)
    # No caller's labels decide alone, in either direction.
    rests = pairs.without_any_caller()
    back = min(_against_challenger(rest) for rest in rests)
    slower = e_processes.highest(e_processes.against_no_worse(speed))
    good, label_free = (min(found) for found in zip(*(_for_challenger(rest, canary) for rest in rests), strict=True))
    found = {"quality": back, "speed": slower, "no_worse": good, "label_free": label_free}
    limits = {"quality_limit": limit, "speed_limit": limit, "no_worse_limit": 1.0 / canary.alpha}
    e_values = {name: e_value(log_e) for name, log_e in found.items()}
    lost = max(_live_difference(rest) for rest in rests)
    values = {**e_values, **limits, **_count_pairs(pairs), "live_difference": lost}
    if slower >= math.log(limit):
        mine, its = (int((pairs.speed == side).sum()) for side in (-1, 1))
        reason = f"only the challenger was slow in {mine} of {speed.size} pairs, only the champion in {its}"
        return Judgement("roll_back", (reason,), values)
    judgement = _weigh_pairs(back, good, values, canary)
    if pairs.exhausted or judgement.verdict != "promote" or canary.slow_margin >= 1.0:
        return judgement
    proof = e_processes.highest(e_processes.against_worse_by(speed, canary.slow_margin))
    return judgement.if_proven("speed", "slow", canary.slow_margin, proof, canary.alpha)


def _against_challenger(pairs: Pairs) -> float:
    """Evidence that it is worse: the mean of a bettor on all pairs and one who bets on the live ones alone."""
    # A late label is bet on when it comes; in favour of promoting, the worst was assumed before,
    # so that a label can only add to what was proven without it.
    known, live, order = _read_pairs(pairs)[0], pairs.from_live, pairs.order
    every, only_live = (column[order] if order.size else column for column in (known, np.where(live, known, 0.0)))
    both = np.logaddexp(e_processes.against_no_worse(every), e_processes.against_no_worse(only_live))
    return e_processes.highest(np.asarray(both - math.log(2.0), dtype=np.float64))


def _for_challenger(pairs: Pairs, canary: Canary) -> tuple[float, float]:
    """Evidence that it is not worse by the margin: (at its highest, the part of it that needs no label)."""
    (_, worst, apart), live = _read_pairs(pairs), pairs.from_live
    good, label_free = _not_worse(worst, apart, canary)
    if int(live.sum()) >= canary.shadow_rows and not live.all():
        # Both: the claim about all inputs holds alpha, and the replayed ones cannot outvote the live ones.
        good = min(good, _not_worse(worst[live], apart[live], canary)[0])
    return good, label_free


def _not_worse(worst: Floats, apart: Floats, canary: Canary) -> tuple[float, float]:
    labelled = e_processes.against_worse_by(worst, canary.quality_margin)
    label_free = e_processes.against_disagreement(apart, canary.quality_margin)
    # Both are evidence against the same claim, so their mean is too: no part of alpha is spent on the choice.
    return e_processes.highest(np.logaddexp(labelled, label_free) - math.log(2.0)), e_processes.highest(label_free)


def _live_difference(pairs: Pairs) -> float:
    return round(float(_read_pairs(pairs)[0][pairs.from_live].sum()), 6)


def _read_pairs(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    """(n,) each: the difference with 0 for unknown, the worst that it can be, the disagreement with 1 for unknown."""
    difference, disagreement = pairs.difference, pairs.disagreement
    bounded = (disagreement >= 0) & (disagreement <= 1)
    apart = np.where(bounded, disagreement, 1.0)
    # A hair more than the bound is rounding; anything else contradicts itself and counts as unknown.
    known = bounded & (np.abs(difference) <= np.minimum(apart + 1e-9, 1.0))
    return np.where(known, difference, 0.0), np.where(known, difference, -apart), apart


def _count_pairs(pairs: Pairs) -> dict[str, float]:
    known, _, apart = _read_pairs(pairs)
    labelled, live = np.isfinite(pairs.difference), pairs.from_live
    return {
        "pairs": int(apart.size),
        "disagreements": int((apart > 0).sum()),
        "unlabelled_disagreements": int((~labelled & (apart > 0)).sum()),
        "mean_difference": round(float(known.mean()), 6) if known.size else 0.0,
        "failed": pairs.failed,
        "replayed": int((~live).sum()),
        "live": int(live.sum()),
    }


def _weigh_pairs(back: float, good: float, values: dict[str, float], canary: Canary) -> Judgement:
    seen = (
        f"{values['pairs']:.0f} paired inputs ({values['replayed']:.0f} replayed), "
        f"{values['disagreements']:.0f} disagreements, mean difference {values['mean_difference']:+.4f}"
    )
    if back >= math.log(values["quality_limit"]):
        return Judgement("roll_back", (f"the challenger's quality is proven worse: {seen}",), values)
    most = max(LIVE_LOSS, canary.quality_margin * values["live"])
    if 0 < values["live"] < values["pairs"] and values["live_difference"] <= -most:
        lost = f"{values['live_difference']:+g} in {values['live']:.0f}"
        reason = f"live inputs speak against it ({lost}), whatever replayed rows say: {seen}"
        return Judgement("hold", (reason,), values)
    if good >= math.log(values["no_worse_limit"]):
        reason = f"proven not worse by {canary.quality_margin:g} or more: {seen}"
        return Judgement("promote", (reason,), values)
    reason = f"quality is undecided (e-value {e_value(good):.3g} of {values['no_worse_limit']:g}): {seen}"
    return Judgement("hold", (reason if values["pairs"] else "no paired input was answered",), values)
