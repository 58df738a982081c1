"""Bring what merely shows the record in line with it: the registry's aliases, and the list of what still differs.

keep_aliases(record, endpoint, registry)
for difference in plan(record.read(endpoint), target.observe()): ...
end_abandoned(record, endpoint, silence.seconds(…))       # a rollout whose process died does not stay half-way
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tokka.deployment.judge.decisions import describe
from tokka.deployment.judge.phases import is_applied, is_ready, roll_back
from tokka.deployment.record import owner
from tokka.deployment.record.record import Record, Superseded
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Observed

ROLES = ("champion", "challenger", "previous")
# Far longer than any one action of a living rollout takes.
ABANDONED_S = 60.0
VERDICT_TAG = "tokka.canary"
VERDICTS = {"promote": "promoted", "finish": "promoted", "roll_back": "rolled_back"}
# Decisions of one rollout that are looked through for the one that ended it, which is among the last.
SEARCHED = 10
LONGEST_REASON = 4000


class Aliases(Protocol):
    """What the projection needs of a registry; see registry/mlflow_client.py."""

    def aliases(self) -> dict[str, str]:
        """Alias to version."""

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version."""

    def delete_alias(self, alias: str) -> None:
        """Remove an alias."""

    def version(self, version: str) -> Any:
        """An object with `tags`."""


class Registered(Aliases, Protocol):
    """What a verdict needs besides."""

    def tag_version(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""


@dataclass(frozen=True)
class Difference:
    """One thing that serves otherwise than the record says."""

    what: str
    wanted: str
    found: str


def project_aliases(state: State, registry: Aliases) -> list[Difference]:
    """Set and delete aliases until they say what the record says; return what was changed.

    A registered version that waits for its rollout keeps the alias `challenger` that registration gave it: the
    record does not know it yet.

    Raises:
        TokkaError: the registry does not answer.
    """
    found = registry.aliases()
    changed = []
    for role in ROLES:
        revision = getattr(state, role)
        wanted = revision.version if revision else ""
        if wanted == found.get(role, "") or (
            not wanted and role == "challenger" and _waits(found[role], state, registry)
        ):
            continue
        if wanted:
            registry.set_alias(role, wanted)
        else:
            registry.delete_alias(role)
        changed.append(Difference(f"alias {role}", wanted, found.get(role, "")))
    return changed


def keep_aliases(record: Record, endpoint: str, registry: Aliases) -> list[Difference]:
    """Project the record until it still says the same afterwards; return what was changed.

    An alias is overwritten blindly: whoever read the record first may write last, and has to look again.

    Raises:
        TokkaError: the record or the registry does not answer.
    """
    changed: list[Difference] = []
    state = record.read(endpoint)
    while True:
        changed += project_aliases(state, registry)
        before, state = state, record.read(endpoint)
        if all(getattr(before, role) == getattr(state, role) for role in ROLES):
            return changed


def show_verdict(version: str, verdict: str, reasons: Sequence[str], registry: Registered) -> None:
    """Write what became of a version beside it.

    Raises:
        TokkaError: the registry does not answer; the verdict holds all the same.
    """
    reason = "; ".join(reasons)[:LONGEST_REASON]
    registry.tag_version(version, {VERDICT_TAG: verdict, f"{VERDICT_TAG}_reason": reason})


def show_last_verdict(record: Record, endpoint: str, registry: Registered) -> str | None:
    """Say of the version whose rollout ended last what became of it, if its driver died before it could.

    Returns the version when that was so.

    Raises:
        TokkaError: the record or the registry does not answer.
    """
    state = record.read(endpoint)
    decisions = record.decisions(endpoint, rollout=state.rollout, limit=SEARCHED) if state.phase == "idle" else []
    last = next((decision for decision in decisions if decision["action"] in VERDICTS), None)
    if last is None:
        return None
    # An A/B test that finishes is one that its challenger has lost.
    lost = last["phase"] == "ab" and last["action"] == "finish"
    version, verdict = last["version"], "rolled_back" if lost else VERDICTS[last["action"]]
    if registry.version(version).tags.get(VERDICT_TAG) == verdict:
        return None
    show_verdict(version, verdict, last["reasons"], registry)
    return str(version)


def plan(state: State, observed: Observed | None) -> list[Difference]:
    """What still differs between the record and what serves; empty when nothing does. Pure."""
    if observed is None:
        return [Difference("stack", "running", "no answer")] if state.champion else []
    differences = []
    if not is_applied(state, observed):
        differences.append(Difference("generation", str(state.generation), str(observed.generation)))
        differences.append(Difference("share", f"{state.share:.2%}", f"{observed.share:.2%}"))
    for role in ROLES:
        revision = getattr(state, role)
        if revision is not None and not is_ready(revision, observed):
            differences.append(Difference(f"{role} {revision.version}", "ready", "not ready"))
    return [difference for difference in differences if difference.wanted != difference.found]


class Silence:
    """For how long nobody gave a sign of life, by a clock of our own.

    A machine that slept, or whose wall clock was set, would otherwise take everybody for dead as it wakes up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._beat, self._seen = clock, math.nan, clock()

    def seconds(self, beat: float | None) -> float:
        """Seconds since the last sign of life, whose value is `beat`, was first seen."""
        if beat is None or beat != self._beat:
            self._beat, self._seen = beat if beat is not None else math.nan, self._clock()
        return self._clock() - self._seen


def is_abandoned(state: State, silent_s: float) -> bool:
    """Whether nobody drives what the record says is under way.

    Args:
        silent_s: for how long its driver gave no sign of life, as `Silence` counts it. It tells of a driver that hangs,
            or that is on another machine; one that was killed here is known at once.
    """
    # An A/B test is driven by the daemon's child, whoever started it.
    dead = state.phase != "ab" and owner.is_dead(state)
    return state.phase != "idle" and (dead or silent_s > ABANDONED_S)


def end_abandoned(record: Record, endpoint: str, silent_s: float) -> State | None:
    """Roll back a rollout that nobody drives any more; None when there is nothing to do.

    A killed driver would leave its challenger on live traffic with no judge. A watch is not ended: the new champion
    may yet have to go, so somebody else goes on with it (see watching.py).
    """
    state = record.read(endpoint)
    if state.phase == "watch" or not is_abandoned(state, silent_s):
        return None
    how = "has ended" if owner.is_dead(state) else f"gave no sign of life for {silent_s:.0f} s"
    action = roll_back(state, "abandoned", f"abandoned: whoever drove this rollout {how}")
    on_trial = state.challenger.version if state.challenger else ""
    decision = describe(action, state, on_trial, record.clock.time())
    try:
        return record.compare_and_set(state, decision=decision, **action.changes)
    except Superseded:
        return None


def _waits(version: str, state: State, registry: Aliases) -> bool:
    """Whether this version may still have its rollout: newer than what serves, and no verdict yet."""
    newest = max((int(revision.version) for revision in (state.champion, state.previous) if revision), default=0)
    return int(version) > newest and VERDICT_TAG not in registry.version(version).tags
