"""A rollout of the product, simulated request by request: `phases.next_action` decides, nothing else.

    outcome = rollout(case, rate, random, Canary())

What is simulated is the world around it. Pairs of the shadow come from held-out rows; the steps see live traffic only,
as with `canary.replay: false`, since failures are taken to be of the kind that only live traffic brings out. The watch
after a promotion, which can still roll back, is left out: a promotion counts as one.

A verdict that stands is looked for by halving, which finds the request after which a look would have found it first:
evidence is the highest level ever reached, so it does not go away.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.canary_world import Case, Floats, Outcome, Requests, Users, join, latencies, simulate
from tokka.deployment.judge.evidence import Pairs, Traffic
from tokka.deployment.judge.phases import Action, Evidence, next_action
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Observed
from tokka.sections_serving import Canary

# Held-out rows are replayed at this rate, in inputs per second.
REPLAY_RATE = 50.0
FIRST_LOOK = 64
ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
SHADOW = State(endpoint="desk", generation=1, champion=ONE, challenger=TWO, phase="shadow")


def rollout(case: Case, rate: float, random: np.random.Generator, canary: Canary) -> Outcome:
    """Shadow, then steps of live traffic."""
    shadow = _shadow(case, random, canary)
    if shadow.verdict != "promote":
        return shadow
    steps = _steps(case, rate, random, canary)
    return replace(steps, minutes=steps.minutes + shadow.minutes, labels=shadow.labels)


def first_verdict(look: Callable[[int], Action], most: int) -> tuple[int, Action]:
    """(observations, action) of the first look that does not wait; the last look where none does."""
    low, high = 0, min(FIRST_LOOK, most)
    while (found := look(high)).kind == "wait" and high < most:
        low, high = high, min(2 * high, most)
    while high - low > 1 and found.kind != "wait":
        middle = (low + high) // 2
        action = look(middle)
        low, high, found = (middle, high, found) if action.kind == "wait" else (low, middle, action)
    return high, found


def _shadow(case: Case, random: np.random.Generator, canary: Canary) -> Outcome:
    """Pairs of answers off the live path: nothing is exposed, and a label is asked for each disagreement."""
    most = int(REPLAY_RATE * canary.maximum_wait_s) + 1
    difference, speed = np.empty(0), np.empty(0)

    def look(n: int) -> Action:
        nonlocal difference, speed
        if n > difference.size:
            difference = np.concatenate([difference, _draw_quality(case, n - difference.size, random)])
            speed = np.concatenate([speed, _draw_speed(case, n - speed.size, random, canary.slow_ms)])
        pairs = Pairs(difference[:n], np.abs(difference[:n]), speed[:n], replayed=np.ones(n))
        return next_action(SHADOW, Evidence(pairs=pairs), canary, n / REPLAY_RATE)

    end, action = first_verdict(look, most)
    return Outcome(_verdict(action), 0, end / REPLAY_RATE / 60, int((difference[:end] != 0).sum()))


def _draw_quality(case: Case, n: int, random: np.random.Generator) -> Floats:
    better = (case.disagreement - (case.accuracy[0] - case.accuracy[1])) / 2
    draw = random.random(n)
    difference: Floats = np.where(draw < better, 1.0, np.where(draw < case.disagreement, -1.0, 0.0))
    return difference


def _draw_speed(case: Case, n: int, random: np.random.Generator, slow_ms: float) -> Floats:
    """A slow model is slow here too."""
    champion, challenger = (latencies(slowdown, n, random) > slow_ms for slowdown in (1.0, case.slowdown))
    difference: Floats = champion.astype(float) - challenger.astype(float)
    return difference


def _steps(case: Case, rate: float, random: np.random.Generator, canary: Canary) -> Outcome:
    """Live requests at rising shares, until something is proven or the time is up."""
    seen, users = Requests(*[np.empty(0)] * 6), Users.draw(case, random)
    most = int(rate * canary.maximum_wait_s) + 1
    for share in canary.steps:
        step = _Step(case, rate, share, seen, users, random, canary)
        end, action = first_verdict(step.look, most)
        seen = step.requests.before(seen.share.size + end)
        if action.kind != "go_on":
            break
    return Outcome(_verdict(action), int(seen.canary.sum()), seen.share.size / rate / 60)


class _Step:
    """The requests of one step, drawn as far as somebody looks."""

    def __init__(
        self, case: Case, rate: float, share: float, earlier: Requests, users: Users, random: np.random.Generator,
        canary: Canary,
    ) -> None:  # fmt: skip
        self._case, self._rate, self._random, self._canary = case, rate, random, canary
        self._share, self._users, self._before = share, users, earlier.share.size
        self.requests = earlier

    def look(self, n: int) -> Action:
        """What the rollout would do after n requests of this step."""
        wanted = self._before + n
        have = self.requests.share.size
        if wanted > have:
            minute = np.arange(have, wanted) / self._rate / 60
            share = np.full(wanted - have, self._share)
            self.requests = join(self.requests, simulate(self._case, share, minute, self._random, self._users))
        state = SHADOW.model_copy(update={"phase": "step", "share": self._share})
        observed = Observed(generation=1, share=self._share, ready=(ONE.digest, TWO.digest))
        traffic = as_traffic(self.requests.before(wanted), self._canary.slow_ms)
        return next_action(state, Evidence(observed, traffic=traffic), self._canary, n / self._rate)


def as_traffic(requests: Requests, slow_ms: float) -> Traffic:
    """What the judge makes of a request log; nobody tells what was right."""
    unknown, zero = np.full(requests.share.size, np.nan), np.zeros(requests.share.size)
    slow = ((requests.latency_ms > slow_ms) & (requests.failed == 0)).astype(float)
    return Traffic(
        canary=requests.canary, share=requests.share, failed=requests.failed, slow=slow, wrong=unknown, replayed=zero,
        refused=zero, key=requests.key, told=unknown,
    )  # fmt: skip


def _verdict(action: Action) -> str:
    """A rollback for want of evidence is none on alleged evidence: that is told apart here."""
    if action.kind == "roll_back":
        return "hold" if action.topic in ("held", "undecided") else "roll_back"
    return "promote" if action.kind in ("promote", "go_on") else "hold"
