"""What a rollout will be able to see: who meets the challenger, and how long each step needs to tell a loss.

Pure arithmetic over today's traffic and the judge's own settings. The judge rolls back once the evidence of
`judge/e_processes.excess_on_canary` reaches its limit. With events at rate p on the champion and p + d on the
challenger, an event is on the challenger with probability q = w (p + d) / (w (p + d) + (1 - w) p) at share w, and the
bettor on ratio r gains q log r - log(1 + w (r - 1)) per event on average; the best of them has to earn log(limit) and
its part in the capital. So the hours are roughly those after which a rollback is as likely as not: half of them to
twice as many (tests/unit/deployment/review/test_forecast.py simulates it with the judge itself). Events that are less
than about one and a quarter times as frequent no bettor gains on: no traffic, however much, will tell them.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.verdict import METRICS, NAMES
from tokka.registry.card import hours
from tokka.sections_serving import Canary

LOSSES = (0.01, 0.02, 0.05)
# What is forecast: refusals are the clients' own.
SHOWN = ("wrong", "errors", "slow")
# Of a rate that is too small for the traffic to show, so much is assumed.
LEAST_RATE = 0.001
# Longer than this nobody waits.
NEVER_H = 24.0 * 90


@dataclass(frozen=True)
class Today:
    """Traffic of some hours. users: distinct keys of the split. rates: events per request whose event is known.

    known: the share of requests on which the event is known, by metric: few bring a true label back.
    """

    hours: float
    requests: int
    users: int
    rates: dict[str, float]
    known: dict[str, float]


@dataclass(frozen=True)
class Step:
    """One step. lasts_h: how long it takes if nothing is wrong. users: who meet the challenger in it.

    needs_h: hours until a loss is told, by metric and loss in points; None: not within 90 days.
    """

    share: float
    lasts_h: float | None
    users: float
    needs_h: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of one rollout; `unseen`: what it cannot see, in words."""

    today: Today
    shadow_h: float | None
    steps: tuple[Step, ...]
    unseen: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def read_today(traffic: Traffic, hours: float) -> Today:
    """What the requests of some hours say."""
    usable = traffic.answered()
    rates, known = {}, {}
    for name in SHOWN:
        events = usable.metrics[name][np.isfinite(usable.metrics[name])]
        rates[name] = float(events.mean()) if events.size else 0.0
        known[name] = events.size / usable.size if usable.size else 0.0
    return Today(hours, usable.size, usable.drawn().size, rates, known)


def forecast(today: Today, canary: Canary) -> Forecast:
    """How a rollout by these settings goes with this traffic, if nothing is wrong with the challenger."""
    per_hour = today.requests / today.hours if today.hours > 0 else 0.0
    keys_per_hour = today.users / today.hours if today.hours > 0 else 0.0
    steps = tuple(
        _step(share, today, canary, per_hour, keys_per_hour, last=share == canary.steps[-1]) for share in canary.steps
    )
    shadow = _hours(canary.shadow_rows, per_hour)
    return Forecast(today, shadow, steps, tuple(_unseen(today, canary, steps, shadow)))


def requests_to_tell(rate: float, loss: float, share: float, canary: Canary) -> float:
    """Requests until events that are more frequent by `loss` on the challenger are told, in the middle; see above."""
    champion = max(rate, LEAST_RATE)
    challenger = min(1.0, champion + loss)
    per_request = share * challenger + (1.0 - share) * champion
    on = share * challenger / per_request
    gains = on * np.log(e_processes.RATIOS) - np.log1p(share * (e_processes.RATIOS - 1.0))
    # The capital is shared, but the bettors beside the best one earn as well: half of its logarithm is what it costs.
    gain, wanted = float(gains.max()), math.log(len(METRICS) / canary.alpha) + math.log(len(e_processes.RATIOS)) / 2
    return wanted / gain / per_request if gain > 1e-9 else math.inf


def requests_to_prove(rate: float, margin: float, share: float, canary: Canary) -> float:
    """Requests until an equally good challenger is proven not worse by `margin`, as the last step asks."""
    if margin >= 1.0:
        return 0.0
    champion, stakes = max(rate, 0.0), e_processes.STAKES
    growth = (1.0 - champion) * np.log1p(stakes * share * margin)
    for chance, z in ((share, 1.0 / share), (1.0 - share, -1.0 / (1.0 - share))):
        growth = growth + champion * chance * np.log1p(stakes * share * (margin - z))
    gain, wanted = float(growth.max()), math.log(1.0 / canary.alpha) + math.log(len(stakes)) / 2
    return wanted / gain if gain > 1e-9 else math.inf


def lines(found: Forecast) -> list[str]:
    """A forecast for a terminal, a line each."""
    said = ["forecast of a rollout that begins now (time to tell +1 / +2 / +5 points of wrong labels, failures, slow):"]
    for step in found.steps:
        needs = ("/".join(hours(hour) for hour in step.needs_h[name].values()) for name in SHOWN)
        what = f"takes {hours(step.lasts_h)}, {step.users:.0f} users meet it"
        said.append(f"  step {step.share:.1%}: {what}; {', '.join(needs)}")
    return [*said, *(f"  cannot be seen: {line}" for line in found.unseen)]


def _step(share: float, today: Today, canary: Canary, per_hour: float, keys: float, *, last: bool) -> Step:
    lasts = _hours(canary.step_requests, per_hour)
    if last and lasts is not None:
        margins = (("errors", canary.error_margin), ("slow", canary.slow_margin))
        proofs = [_hours(requests_to_prove(today.rates[name], margin, share, canary), keys) for name, margin in margins]
        lasts = None if None in proofs else max(lasts, *(proof or 0.0 for proof in proofs))
    lasts = None if lasts is None else max(lasts, canary.minimum_wait_s / 3600.0)
    needs = {
        name: {
            f"{100 * loss:g}": _hours(
                requests_to_tell(today.rates[name], loss, share, canary), keys * today.known[name]
            )
            for loss in LOSSES
        }
        for name in SHOWN
    }
    return Step(share, lasts, share * keys * (lasts or 0.0), needs)


def _hours(count: float, per_hour: float) -> float | None:
    hours = count / per_hour if per_hour > 0 else math.inf
    return hours if hours <= NEVER_H else None


def _unseen(today: Today, canary: Canary, steps: tuple[Step, ...], shadow: float | None) -> Iterable[str]:
    limit = canary.maximum_wait_s / 3600.0
    if today.requests == 0:
        yield "nothing at all: no request was logged in the hours that were looked at"
        return
    if today.known["wrong"] == 0.0:
        yield "wrong answers: no request brought its true label back; the shadow's labels are all there is"
    if shadow is None or shadow > limit:
        words = "test rows are replayed beside it" if canary.replay else "the rollout is rolled back as undecided"
        yield f"{canary.shadow_rows} live pairs within canary.maximum_wait_s ({limit:.2g} h): {words}"
    if any(step.lasts_h is None or step.lasts_h > limit for step in steps):
        ends = "replayed rows make up for it" if canary.replay else "it ends as held"
        yield f"enough for every step within canary.maximum_wait_s ({limit:.2g} h): {ends}"
    for name in SHOWN:
        lost = [points for points in (f"{100 * loss:g}" for loss in LOSSES) if not _told(name, points, steps)]
        if lost and today.known[name]:
            yield f"{NAMES[name]} more frequent by {', '.join(lost)} points: the steps are over before that is told"


def _told(name: str, points: str, steps: tuple[Step, ...]) -> bool:
    """Whether some step lasts as long as it needs to tell this loss."""
    return any((needs := step.needs_h[name][points]) is not None and needs <= (step.lasts_h or 0.0) for step in steps)
