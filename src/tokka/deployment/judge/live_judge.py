"""The judge of live traffic: pure, valid at every look; no evidence is no pass.

`promote` means: at this point nothing stands against going on, and enough was seen to say so. `alpha` bounds the
share of equally good challengers that are rolled back (split over the metrics) and the share of challengers worse by
`quality_margin` that pass the shadow.

Both bounds need observations that the split, or nothing but chance, sets apart. The side of a user is drawn with a
secret key, so that its first request alone was sent by somebody who could not know it: that one counts, whatever it
became, and what was bet on stays in the order in which it became known. So no caller can do better than chance by what
it sends. A refusal and a label come after the side is known: they count as far as they count without any one caller.
"""

import math

import numpy as np

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.judge.evidence import Traffic, heaviest
from tokka.deployment.judge.verdict import METRICS, NAMES, Judgement, e_value
from tokka.sections_serving import Canary

# A rate below this is not worth a rollback after a promotion, whatever it was before.
TOLERATED = {"errors": 0.02, "slow": 0.05, "wrong": 0.1}
# More unusable evidence than this, and the rest is not believed either.
MAXIMUM_UNUSABLE = 0.01
# So many more events of live requests than the challenger's share, and two standard deviations, make one doubt.
LIVE_EXCESS = 2.0


def judge_traffic(traffic: Traffic, share: float, canary: Canary, *, last: bool = False) -> Judgement:
    """Live traffic: is the canary proven to fail, to be slow or to be wrong more often than the champion?

    Args:
        traffic: every request since the rollout began, whatever the share was then.
        share: the share of the present step, in (0, 1]; enough requests at it must have been seen to go on.
        last: whether a promotion comes next, which needs proof that it does not fail more often (`error_margin`) and
            is not slow more often (`slow_margin`). Nothing else may be promoted on, so alpha is not split here.
    """
    usable = traffic.usable()
    unusable = traffic.size - usable.size
    values = {"requests": usable.size, "unusable": unusable, "replayed": float(usable.replayed.sum())}
    if against := _find_excesses(usable, canary, values):
        return Judgement("roll_back", against, values)
    # Requests that no version can answer must not make up the answers that a promotion needs.
    answered = usable.answered()
    if unusable > MAXIMUM_UNUSABLE * (every := answered.size + unusable):
        return Judgement("hold", (f"{unusable} of {every} requests in the log make no sense",), values)
    if doubts := _find_doubts(answered):
        return Judgement("hold", doubts, values)
    step = _weigh_step(usable, share, canary, values)
    if not last or step.verdict != "promote":
        return step
    return _ask_for_proof(step, usable.split().drawn().answered(), canary)


def judge_ab(traffic: Traffic, alpha: float) -> Judgement:
    """An A/B test, of which `traffic` is every request: does the challenger provably fail more often?"""
    usable, limit = traffic.usable(), 1.0 / alpha
    log_e, failures = _excess(usable, "errors")
    values = {"errors": e_value(log_e), "errors_limit": limit, "requests": traffic.size}
    if log_e < math.log(limit):
        return Judgement("hold", (f"{traffic.size} requests",), values)
    on = f"{failures.canary.sum():.0f} of {failures.size} failures on it, e-value {values['errors']:.3g}"
    return Judgement("roll_back", (f"the challenger fails more often: {on}",), values)


def judge_watch(before: Traffic, after: Traffic, canary: Canary) -> Judgement:
    """After the promotion: are events on the new champion proven more than twice as frequent as on the old one?

    Where events were usual before, twice as frequent is none: then, whether what is no event is half as frequent.
    Of `before`, the requests of the rollout, those on the old champion say what is usual.
    """
    before, after = before.answered(), after.answered()
    before = before.where(before.canary == 0)
    values, against, wanted = {"requests": float(after.size)}, [], len(TOLERATED) / canary.alpha
    for name, tolerated in TOLERATED.items():
        limit = _usual_limit(before.known(name).metrics[name], tolerated)
        told = after.known(name)
        seen, giver = told.metrics[name], told.giver if name == "wrong" else np.full(told.size, math.nan)
        rests = [seen, *(seen[giver != one] for one in heaviest(giver))]
        log_e = min(e_processes.highest(e_processes.above_limit(rest, limit)) for rest in rests)
        values |= {name: e_value(log_e), f"{name}_limit": wanted, f"{name}_rate_limit": round(limit, 6)}
        if log_e >= math.log(wanted):
            against.append(f"{int(seen.sum())} {NAMES[name]} in {seen.size} requests, at most {limit:.1%} is usual")
    if against:
        return Judgement("roll_back", tuple(against), values)
    return Judgement("hold", (f"{after.size} requests since the promotion, nothing stands out",), values)


def is_calm(watched: Judgement) -> bool:
    """Whether no evidence of a watch has gone half the way, in orders of magnitude, to a rollback."""
    return all(watched.values[name] < math.sqrt(watched.values[f"{name}_limit"]) for name in TOLERATED)


def _find_excesses(traffic: Traffic, canary: Canary, values: dict[str, float]) -> tuple[str, ...]:
    """What the challenger is proven to have too much of, as reasons; the evidence goes into `values`."""
    against, limit = [], len(METRICS) / canary.alpha
    for name, column in traffic.metrics.items():
        log_e, events = _excess(traffic, name)
        values |= {name: e_value(log_e), f"{name}_limit": limit, f"{name}_seen": events.size}
        if log_e >= math.log(limit):
            sides = [column[traffic.canary == side] for side in (1, 0)]
            on, off = (f"{int((side == 1).sum())} of {side.size}" for side in sides)
            seen = f"{on} requests on it, {off} on the champion, e-value {values[name]:.3g} of {limit:g}"
            against.append(f"the challenger has too many {NAMES[name]}: {seen}")
    return tuple(against)


def _excess(traffic: Traffic, name: str) -> tuple[float, Traffic]:
    """The evidence that the canary has too many events of a metric, and those among the first requests of users.

    Of what callers can choose knowing the side, the evidence that is left without the one whom it most depends on.
    """
    drawn = traffic.split().drawn()
    events = drawn.where(drawn.metrics[name] == 1).known(name)
    caller = {"refused": events.caller, "wrong": events.giver}.get(name, np.full(events.size, math.nan))
    parts = [events, *(events.where(caller != one) for one in heaviest(caller))]
    found = [e_processes.highest(e_processes.excess_on_canary(part.canary, part.share)) for part in parts]
    return min(found), events


def _find_doubts(traffic: Traffic) -> tuple[str, ...]:
    """What live requests, not users, say against the challenger, where others could outvote them: no proof.

    Replayed ones could, and those of one caller among several who sends most: its good answers hide no failure.
    """
    live = traffic.where(traffic.replayed == 0).split()
    doubts = []
    for name in ("errors", "slow") if traffic.replayed.any() or _is_outweighed(live) else ():
        event = live.where(live.metrics[name] == 1)
        if name == "slow":
            # Who asks for much knows on which side.
            event = event.where(~np.isin(event.caller, heaviest(event.caller)[:1]))
        excess = float((event.canary - event.share).sum())
        spread = math.sqrt(float((event.share * (1 - event.share)).sum()))
        if excess >= max(LIVE_EXCESS, 2 * spread):
            on = f"{event.canary.sum():.0f} of {event.size} {NAMES[name]} of live requests are on the challenger"
            doubts.append(f"{on}, {event.share.sum():.1f} were to be expected, whatever other requests say")
    return tuple(doubts)


def _is_outweighed(live: Traffic) -> bool:
    """Whether most requests are of one caller whose weight is bounded, and some are not."""
    most = int(np.count_nonzero(np.isin(live.caller, heaviest(live.caller)[:1])))
    return bool(live.size / 2 < most < live.size)


def _weigh_step(traffic: Traffic, share: float, canary: Canary, values: dict[str, float]) -> Judgement:
    drawn = traffic.split().drawn()
    sides = drawn.where(np.abs(drawn.share - share) < 1e-6).canary
    here = traffic.where(np.abs(traffic.share - share) < 1e-6).answered()
    answered = int((here.canary * (1 - here.failed)).sum())
    seen_share = round(float(here.canary.mean()), 6) if here.size else 0.0
    values |= {"step_requests": here.size, "step_on_canary": float(here.canary.sum()), "step_share": seen_share}
    seen = f"{here.size} requests at {share:.1%} ({here.replayed.sum():.0f} replayed), {answered} good answers by it"
    if here.size < canary.step_requests:
        return Judgement("hold", (f"too few requests: {seen}, {canary.step_requests} wanted",), values)
    # Four standard deviations and one request: a sound split fails this about once in 15,000 looks.
    if abs(float(sides.sum()) - sides.size * share) > 4 * math.sqrt(sides.size * share * (1 - share)) + 1:
        return Judgement("hold", (f"the split is not as ordered: {seen_share:.1%} seen, {seen}",), values)
    if answered < max(1.0, canary.step_requests * share / 2):
        return Judgement("hold", (f"too few answers by the challenger: {seen}",), values)
    return Judgement("promote", (f"nothing stands against it: {seen}",), values)


def _ask_for_proof(step: Judgement, drawn: Traffic, canary: Canary) -> Judgement:
    """Hold a promotion until it is proven harmless."""
    for name, margin in (("slow", canary.slow_margin), ("errors", canary.error_margin)):
        if margin < 1.0:
            proof = e_processes.against_excess_of(margin, drawn.metrics[name], drawn.canary, drawn.share)
            step = step.if_proven(name, name, margin, e_processes.highest(proof), canary.alpha)
    return step


def _usual_limit(usual: Floats, tolerated: float) -> float:
    rate = (float(usual.sum()) + 1.0) / (usual.size + 2.0)
    return max(tolerated, min(2.0 * rate, (1.0 + rate) / 2.0))
