"""The judge of a rollout: pure, valid however often one asks, and never content with nothing.

    judgement = judge_traffic(traffic, share=0.05, canary=params.canary)
    judgement.verdict                            # "promote", "roll_back" or "hold", with reasons and e-values

`promote` means: at this point nothing stands against going on, and enough was seen to say so. `alpha` bounds the
share of equally good challengers that are rolled back (split over the metrics) and the share of challengers worse by
`quality_margin` that pass the shadow.

Both bounds need observations that the split, or nothing but chance, sets apart: of what a split keeps on one side (a
user) the first request speaks, and the first event; and what was bet on stays in the order in which it became known.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokka.deployment import betting
from tokka.deployment.betting import Floats
from tokka.deployment.evidence import Pairs, Traffic, first_of_each
from tokka.params import Canary

Verdict = Literal["promote", "roll_back", "hold"]

# What can end a rollout; each gets an equal part of alpha.
METRICS = ("quality", "speed", "errors", "slow", "wrong", "refused")
NAMES = {"errors": "failures", "slow": "slow answers", "wrong": "wrong labels", "refused": "refused requests"}
# The watch after a promotion is a decision of its own: nothing is left to compare with but what was before.
WATCHED = ("errors", "slow", "wrong")
# A rate below this is not worth a rollback after a promotion, whatever it was before.
TOLERATED = {"errors": 0.02, "slow": 0.05, "wrong": 0.1}
# More unusable evidence than this, and the rest is not believed either.
MAXIMUM_UNUSABLE = 0.01
# Bounds what JSON has to hold; e**690 is about 1e299.
HIGHEST_LOG = 690.0
# So many more losses than wins on live inputs are no proof, but nothing to promote on the word of replayed rows.
LIVE_LOSS = 3.0


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and the numbers behind it (e-values by metric, their thresholds as `<metric>_limit`, counts)."""

    verdict: Verdict
    reasons: tuple[str, ...]
    values: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {"verdict": self.verdict, "reasons": list(self.reasons), "values": self.values}


def judge_pairs(pairs: Pairs, canary: Canary) -> Judgement:
    """The shadow: is the challenger proven worse or slower, or proven not worse by `quality_margin`?

    Labels are not needed where both agree. Where they disagree and no label came, promoting assumes the worst
    and rolling back assumes nothing.
    """
    known, worst, apart = _read_pairs(pairs)
    live = pairs.from_live
    back = betting.highest(_against_challenger(known, live, pairs.order))
    slower = betting.highest(betting.against_no_worse(np.where(np.abs(pairs.speed) <= 1, pairs.speed, 0.0)))
    good, label_free = _for_challenger(worst, apart, canary)
    alone = int(live.sum()) >= canary.shadow_rows and not live.all()
    if alone:
        # Both: the claim about all inputs holds alpha, and the replayed ones cannot outvote the live ones.
        good = min(good, _for_challenger(worst[live], apart[live], canary)[0])
    e_values = {"quality": _e(back), "speed": _e(slower), "no_worse": _e(good), "label_free": _e(label_free)}
    limits = {"quality_limit": len(METRICS) / canary.alpha, "speed_limit": len(METRICS) / canary.alpha}
    values = {**e_values, **limits, "no_worse_limit": 1.0 / canary.alpha, **_count_pairs(pairs, known, apart)}
    if slower >= math.log(limits["speed_limit"]):
        mine, its = (int((pairs.speed == side).sum()) for side in (-1, 1))
        reason = f"only the challenger was slow in {mine} of {pairs.speed.size} pairs, only the champion in {its}"
        return Judgement("roll_back", (reason,), values)
    return _weigh_pairs(back, good, values, canary)


def judge_traffic(traffic: Traffic, share: float, canary: Canary, *, last: bool = False) -> Judgement:
    """Live traffic: is the canary proven to fail, to be slow or to be wrong more often than the champion?

    Args:
        traffic: every request since the rollout began, whatever the share was then.
        share: the share of the present step, in (0, 1]; enough requests at it must have been seen to go on.
        last: whether a promotion comes next, which needs proof that it does not fail more often (`error_margin`) and
            is not slow more often (`slow_margin`). Nothing else may be promoted on, so alpha is not split here.
    """
    usable = traffic.usable()
    unusable = traffic.size - int(usable.sum())
    traffic = traffic.where(usable)
    values: dict[str, float] = {
        "requests": traffic.size,
        "unusable": unusable,
        "replayed": float(traffic.replayed.sum()),
    }
    against = _find_excesses(traffic, canary, values)
    if against:
        return Judgement("roll_back", against, values)
    # Who asks for what nobody can answer must not make the answers that a promotion needs.
    traffic = traffic.where(traffic.refused == 0)
    if unusable > MAXIMUM_UNUSABLE * (traffic.size + unusable):
        return Judgement(
            "hold", (f"{unusable} of {traffic.size + unusable} requests in the log make no sense",), values
        )
    step = _weigh_step(traffic, share, canary, values)
    return _ask_for_proof(step, traffic, canary) if last and step.verdict == "promote" else step


def judge_watch(before: Traffic, after: Traffic, canary: Canary) -> Judgement:
    """After the promotion: are events on the new champion proven more than twice as frequent as on the old one?

    Where events were usual before, twice as frequent is none: then, whether what is no event is half as frequent.

    Args:
        before: requests of the rollout; those on the old champion say what is usual.
        after: requests since the promotion.
    """
    before = before.where(before.usable() & (before.canary == 0) & (before.refused == 0))
    after = after.where(after.usable() & (after.refused == 0))
    values: dict[str, float] = {"requests": after.size}
    against = []
    for name in WATCHED:
        limit = _usual_limit(_column(before, name), TOLERATED[name])
        seen = _column(after, name)
        log_e = betting.highest(betting.above_limit(seen, limit))
        values |= {name: _e(log_e), f"{name}_limit": len(WATCHED) / canary.alpha, f"{name}_rate_limit": round(limit, 6)}
        if log_e >= math.log(len(WATCHED) / canary.alpha):
            against.append(f"{int(seen.sum())} {NAMES[name]} in {seen.size} requests, at most {limit:.1%} is usual")
    if against:
        return Judgement("roll_back", tuple(against), values)
    return Judgement("hold", (f"{after.size} requests since the promotion, nothing stands out",), values)


def _against_challenger(known: Floats, live: NDArray[np.bool_], order: NDArray[np.intp]) -> Floats:
    """Evidence that it is worse: the mean of a bettor on all pairs and one who bets on the live ones alone."""
    # Whoever bets on what a late label says bets when it comes; in favour of promoting, the worst was assumed before,
    # so that a label can only add to what was proven without it.
    every, only_live = (column[order] if order.size else column for column in (known, np.where(live, known, 0.0)))
    both = np.logaddexp(betting.against_no_worse(every), betting.against_no_worse(only_live))
    return np.asarray(both - math.log(2.0), dtype=np.float64)


def _for_challenger(worst: Floats, apart: Floats, canary: Canary) -> tuple[float, float]:
    """Evidence that it is not worse by the margin: (at its highest, the part of it that needs no label)."""
    labelled = betting.against_worse_by(worst, canary.quality_margin)
    label_free = betting.against_disagreement(apart, canary.quality_margin)
    # Both are evidence against the same claim, so their mean is too: no part of alpha is spent on the choice.
    return betting.highest(np.logaddexp(labelled, label_free) - math.log(2.0)), betting.highest(label_free)


def _read_pairs(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    """(n,) each: the difference with 0 for unknown, the worst that it can be, the disagreement with 1 for unknown."""
    difference, disagreement = pairs.difference, pairs.disagreement
    bounded = (disagreement >= 0) & (disagreement <= 1)
    apart = np.where(bounded, disagreement, 1.0)
    # A hair more than the bound is rounding; anything else contradicts itself and counts as unknown.
    known = bounded & (np.abs(difference) <= np.minimum(apart + 1e-9, 1.0))
    return np.where(known, difference, 0.0), np.where(known, difference, -apart), apart


def _count_pairs(pairs: Pairs, known: Floats, apart: Floats) -> dict[str, float]:
    labelled, live = np.isfinite(pairs.difference), pairs.from_live
    return {
        "pairs": int(apart.size),
        "disagreements": int((apart > 0).sum()),
        "unlabelled_disagreements": int((~labelled & (apart > 0)).sum()),
        "mean_difference": round(float(known.mean()), 6) if known.size else 0.0,
        "failed": pairs.failed,
        "replayed": int((~live).sum()),
        "live": int(live.sum()),
        "live_difference": round(float(known[live].sum()), 6),
    }


def _weigh_pairs(back: float, good: float, values: dict[str, float], canary: Canary) -> Judgement:
    seen = (
        f"{values['pairs']:.0f} paired inputs ({values['replayed']:.0f} replayed), "
        f"{values['disagreements']:.0f} disagreements, mean difference {values['mean_difference']:+.4f}"
    )
    if back >= math.log(values["quality_limit"]):
        return Judgement("roll_back", (f"the challenger's quality is proven worse: {seen}",), values)
    if 0 < values["live"] < values["pairs"] and values["live_difference"] <= -max(
        LIVE_LOSS, canary.quality_margin * values["live"]
    ):
        lost = f"{values['live_difference']:+g} in {values['live']:.0f}"
        reason = f"live inputs speak against it ({lost}), whatever replayed rows say: {seen}"
        return Judgement("hold", (reason,), values)
    if good >= math.log(values["no_worse_limit"]):
        reason = f"proven not worse by {canary.quality_margin:g} or more: {seen}"
        return Judgement("promote", (reason,), values)
    reason = f"quality is undecided (e-value {_e(good):.3g} of {values['no_worse_limit']:g}): {seen}"
    return Judgement("hold", (reason if values["pairs"] else "no paired input was answered",), values)


def _weigh_step(traffic: Traffic, share: float, canary: Canary, values: dict[str, float]) -> Judgement:
    here = traffic.where(np.abs(traffic.share - share) < 1e-6)
    drawn = here.where(first_of_each(here.key)).canary
    answered = int((here.canary * (1 - here.failed)).sum())
    wanted = canary.step_requests * share
    values |= {
        "step_requests": here.size,
        "step_on_canary": float(here.canary.sum()),
        "step_share": round(float(here.canary.mean()), 6) if here.size else 0.0,
    }
    seen = f"{here.size} requests at {share:.1%} ({here.replayed.sum():.0f} replayed), {answered} good answers by it"
    if here.size < canary.step_requests:
        return Judgement("hold", (f"too few requests: {seen}, {canary.step_requests} wanted",), values)
    # Four standard deviations and one request: a sound split fails this about once in 15,000 looks.
    if abs(float(drawn.sum()) - drawn.size * share) > 4 * math.sqrt(drawn.size * share * (1 - share)) + 1:
        return Judgement("hold", (f"the split is not as ordered: {values['step_share']:.1%} seen, {seen}",), values)
    if answered < max(1.0, wanted / 2):
        return Judgement("hold", (f"too few answers by the challenger: {seen}",), values)
    return Judgement("promote", (f"nothing stands against it: {seen}",), values)


def _ask_for_proof(step: Judgement, traffic: Traffic, canary: Canary) -> Judgement:
    """Hold what nothing speaks against until something speaks for it."""
    between = traffic.where((traffic.share > 0) & (traffic.share < 1))
    between = between.where(first_of_each(between.key))
    missing, values = [], dict(step.values)
    for name, margin in (("errors", canary.error_margin), ("slow", canary.slow_margin)):
        if margin < 1.0:
            log_e = betting.against_excess_of(margin, _column(between, name), between.canary, between.share)
            values |= {f"{name}_proof": _e(betting.highest(log_e)), f"{name}_proof_limit": 1.0 / canary.alpha}
            if betting.highest(log_e) < math.log(1.0 / canary.alpha):
                e_values = f"e-value {values[f'{name}_proof']:.3g} of {1 / canary.alpha:g}"
                missing.append(
                    f"not yet proven that {NAMES[name]} are less than {margin:.1%} more frequent ({e_values})"
                )
    return Judgement("hold" if missing else "promote", (*missing, *step.reasons), values)


def _column(traffic: Traffic, name: str) -> Floats:
    """The 0 or 1 of a metric for the requests on which it is known, in the order in which it became known."""
    column: Floats = _columns(traffic)[name]
    known = np.flatnonzero(np.isfinite(column))
    return column[_as_told(traffic, known) if name == "wrong" else known]


def _columns(traffic: Traffic) -> dict[str, Floats]:
    return {"errors": traffic.failed, "slow": traffic.slow, "wrong": traffic.wrong, "refused": traffic.refused}


def _as_told(traffic: Traffic, positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Feedback that comes late is bet on last: nobody could bet on it before."""
    return positions[np.argsort(traffic.told[positions], kind="stable")]


def _find_excesses(traffic: Traffic, canary: Canary, values: dict[str, float]) -> tuple[str, ...]:
    """What the challenger is proven to have too much of, in words; the evidence goes into `values`."""
    against, limit = [], len(METRICS) / canary.alpha
    for name, column in _columns(traffic).items():
        log_e, events = _excess(traffic, name)
        values |= {name: _e(log_e), f"{name}_limit": limit, f"{name}_seen": events}
        if log_e >= math.log(limit):
            against.append(f"the challenger has too many {NAMES[name]}: {_excess_words(traffic, column, name, values)}")
    return tuple(against)


def _excess(traffic: Traffic, name: str) -> tuple[float, int]:
    # At a share of 0 or 1 all traffic goes one way, and an event says nothing about which one is better.
    events = np.flatnonzero((_columns(traffic)[name] == 1) & (traffic.share > 0) & (traffic.share < 1))
    events = _as_told(traffic, events) if name == "wrong" else events
    events = events[first_of_each(traffic.key[events])]
    return betting.highest(betting.excess_on_canary(traffic.canary[events], traffic.share[events])), int(events.size)


def _excess_words(traffic: Traffic, column: Floats, name: str, values: dict[str, float]) -> str:
    on = [
        f"{int((column[traffic.canary == side] == 1).sum())} of {int((traffic.canary == side).sum())}"
        for side in (1, 0)
    ]
    return f"{on[0]} requests on it, {on[1]} on the champion, e-value {values[name]:.3g} of {values[f'{name}_limit']:g}"


def _usual_limit(usual: Floats, tolerated: float) -> float:
    rate = (float(usual.sum()) + 1.0) / (usual.size + 2.0)
    return max(tolerated, min(2.0 * rate, (1.0 + rate) / 2.0))


def _e(log_e: float) -> float:
    return round(math.exp(min(log_e, HIGHEST_LOG)), 6)
