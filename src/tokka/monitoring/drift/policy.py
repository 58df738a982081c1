"""When a retraining may start: a pure function of the windows, the labels and what was tried before.

    decision = decide(facts, params.monitoring, params.retraining)
    decision.verdict       # retrain | wait | alert
    decision.reasons       # every rule that spoke, in words

Drift alone never starts anything: it must be confirmed (hysteresis), there must be new labels to learn from, the last
attempt must be long enough ago, and attempts that did not help stop the loop until a person starts one. What a person,
a commit or a schedule asks for needs no drift; the verdict of the windows is recorded all the same.

| Rule                        | drift | schedule | git | person |
|-----------------------------|-------|----------|-----|--------|
| traffic is not broken       | alert | alert    |     |        |
| not this very attempt again | wait  | wait     | wait|        |
| none in flight              | wait  | wait     | wait|        |
| refused too often           | alert | alert    |     |        |
| drift is confirmed          | wait  |          |     |        |
| enough new labels           | wait  |          |     |        |
| cool-down, budget per week  | wait  |          |     |        |
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from tokka.errors import UsageError
from tokka.monitoring.drift.drift import WindowDrift
from tokka.sections_serving import Monitoring, Retraining

Cause = Literal["drift", "schedule", "git", "person"]
Outcome = Literal["running", "promoted", "refused", "rolled_back", "held", "failed"]
Verdict = Literal["retrain", "wait", "alert"]
State = Literal["drifted", "suspected", "clean", "insufficient_data", "no_champion"]
# Feedback is learned from when the traffic is the reason to train. A person's run trains on the data that params.yaml
# names, so that the same command twice is the same run.
CAUSES_WITH_FEEDBACK = ("drift", "schedule")
HOUR, WEEK = 3600.0, 7 * 86400.0
# A run that was killed never says how it ended: after so many hours it no longer blocks others.
STALE_HOURS = 12.0
# Which columns are named as the ones that differ; it decides nothing.
SHOWN_P = 0.05
UNHELPFUL = ("refused", "rolled_back")
# Whom the objections hold for: whatever starts without a person, and what starts without a change of code as well.
UNATTENDED, LOOP = ("drift", "schedule", "git"), ("drift", "schedule")


@dataclass(frozen=True)
class Attempt:
    """An earlier retraining: when it started (seconds since 1970), why, under which key, and how it ended."""

    time: float
    cause: str
    trigger_key: str
    outcome: str = "running"


@dataclass(frozen=True)
class Facts:
    """All that the policy looks at; windows oldest first, attempts in any order."""

    cause: str
    now: float
    windows: Sequence[WindowDrift] = ()
    attempts: Sequence[Attempt] = ()
    labelled_rows: int = 0
    trigger_key: str = ""
    champion: bool = True

    @property
    def broken(self) -> tuple[str, ...]:
        """What is wrong with the newest window's traffic itself."""
        return self.windows[-1].quality if self.windows else ()


@dataclass(frozen=True)
class Decision:
    """What to do, what the windows say together, and why."""

    verdict: Verdict
    drift: State
    reasons: tuple[str, ...] = ()


def decide(facts: Facts, monitoring: Monitoring, retraining: Retraining) -> Decision:
    """Apply the table above; every objection is a reason, and one that alerts outweighs those that wait."""
    if facts.cause not in get_args(Cause):
        raise UsageError(f"cause {facts.cause!r} is unknown", f"one of: {', '.join(get_args(Cause))}")
    state, seen = confirm(facts, monitoring)
    found = [one for one in _objections(facts, state, monitoring, retraining) if facts.cause in one.causes]
    verdict: Verdict = "retrain" if not found else "alert" if any(one.verdict == "alert" for one in found) else "wait"
    asked = [] if facts.cause == "drift" else [f"asked for by {facts.cause}"]
    if facts.cause in ("git", "person"):
        asked += [f"the traffic may be broken: {problem}" for problem in facts.broken]
    return Decision(verdict, state, (seen, *asked, *(one.reason for one in found)))


def confirm(facts: Facts, monitoring: Monitoring) -> tuple[State, str]:
    """The windows together: n of the last m and the newest, else suspected, clean or unknown."""
    if not facts.champion:
        return "no_champion", "nothing serves yet, so there is nothing to compare traffic with"
    if not facts.windows or facts.windows[-1].verdict == "insufficient_data":
        why = facts.windows[-1].reason if facts.windows else ""
        why = why or f"cannot tell: no full window of {monitoring.window_rows} predictions"
        return "insufficient_data", f"{why}: drift is unknown"
    last = facts.windows[-monitoring.of_windows :]
    drifted = sum(window.verdict == "drifted" for window in last)
    found = (
        f"{drifted} of the last {len(last)} windows drifted; the newest is {last[-1].verdict} (p = {last[-1].p:.4f})"
    )
    if last[-1].verdict != "drifted":
        return "clean", found
    shown = [f"{one.name} {one.reference:.3g} to {one.window:.3g}" for one in last[-1].columns if one.p < SHOWN_P]
    found += f"; what differs: {', '.join(shown)}" if shown else ""
    return ("drifted", found) if drifted >= monitoring.drifted_windows else ("suspected", found)


class _Objection(NamedTuple):
    verdict: Verdict
    causes: tuple[str, ...]
    reason: str


def _objections(facts: Facts, state: State, monitoring: Monitoring, retraining: Retraining) -> Iterator[_Objection]:
    for problem in facts.broken:
        yield _Objection("alert", LOOP, f"the traffic is broken, which no training mends: {problem}")
    if facts.trigger_key and any(attempt.trigger_key == facts.trigger_key for attempt in facts.attempts):
        reason = "this very retraining was started before: same champion, reference, labels and params"
        yield _Objection("wait", UNATTENDED, reason)
    if any(a.outcome == "running" and facts.now - a.time < STALE_HOURS * HOUR for a in facts.attempts):
        yield _Objection("wait", UNATTENDED, "a retraining is under way")
    count = unhelpful_in_a_row(facts.attempts)
    if count >= retraining.maximum_refused:
        reason = f"the last {count} retrainings did not help: a person has to look, and may start one"
        yield _Objection("alert", LOOP, reason)
    for reason in _too_early(facts, state, monitoring, retraining):
        yield _Objection("wait", ("drift",), reason)


def _too_early(facts: Facts, state: State, monitoring: Monitoring, retraining: Retraining) -> Iterator[str]:
    if state != "drifted":
        yield f"drift is not confirmed: {monitoring.drifted_windows} of {monitoring.of_windows} windows and the newest"
    if facts.labelled_rows < retraining.minimum_labels:
        yield f"blocked: {facts.labelled_rows} new labelled rows, {retraining.minimum_labels} are needed"
    hours = (facts.now - max((attempt.time for attempt in facts.attempts), default=-math.inf)) / HOUR
    if hours < retraining.cool_down_hours:
        yield f"cooling down: the last one started {hours:.1f} h ago, {retraining.cool_down_hours:g} h must pass"
    count = sum(facts.now - attempt.time < WEEK for attempt in facts.attempts if attempt.cause != "person")
    if count >= retraining.per_week:
        yield f"{count} retrainings within seven days, {retraining.per_week} are allowed"


def unhelpful_in_a_row(attempts: Sequence[Attempt]) -> int:
    """Newest attempts that a gate or a canary turned down; one that failed or waits says nothing either way.

    A refused run of a person's does not count, a promoted one ends the series.
    """
    count = 0
    for attempt in sorted(attempts, key=lambda attempt: attempt.time, reverse=True):
        if attempt.outcome == "promoted":
            break
        count += attempt.outcome in UNHELPFUL and attempt.cause != "person"
    return count


def learned_until(attempts: Sequence[Attempt]) -> float:
    """When labelled feedback was last trained on; rows since then are new."""
    return max((attempt.time for attempt in attempts if attempt.cause in CAUSES_WITH_FEEDBACK), default=0.0)
