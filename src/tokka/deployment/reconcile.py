"""Write actions into the record, and bring what shows it in line: what serves, the registry's aliases and verdicts.

All of it may be called again at any time. It raises TokkaError when the record or the registry does not answer.
"""

import time
from collections.abc import Callable, Sequence

from tokka import progress
from tokka.deployment.judge.phases import Action, roll_back
from tokka.deployment.record import owner
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.record import Record, Superseded
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Target
from tokka.deployment.registry import Registry
from tokka.errors import Missing, Refused, TokkaError

ROLES = ("champion", "challenger", "previous")
# Far longer than any one action of a living owner takes.
ABANDONED_S = 60.0
# The daemon follows the record within a fraction of a second; a stack that is started takes a few.
SETTLE_S, SETTLE_POLL_S = 10.0, 0.1
VERDICT_TAG = "tokka.canary"
VERDICTS = {"promote": "promoted", "finish": "promoted", "roll_back": "rolled_back"}
# Decisions of one rollout that are looked through for the one that ended it, which is among the last.
SEARCHED = 10
LONGEST_REASON = 4000


def carry_out(record: Record, state: State, action: Action) -> State:
    """Write an action into the record, together with why; Superseded when `state` is not the newest."""
    return record.compare_and_set(state, decision=action.describe(state, record.clock.time()), **action.changes)


def rollback(record: Record, endpoint: str, reason: str) -> State:
    """By hand, at once: take a running challenger away, or else put the previous champion back.

    Refused when there is neither, Superseded when a rollout moved at the same moment.
    """
    state = record.read(endpoint)
    if state.challenger is None and state.previous is None:
        raise Refused(f"{endpoint} has no previous champion to go back to", "see tokka status")
    return carry_out(record, state, roll_back(state, "by hand", reason))


def settle(target: Target, state: State, clock: Clock) -> bool:
    """Have a state applied, and wait until it is in force; at most `SETTLE_S` seconds."""
    deadline = clock.monotonic() + SETTLE_S
    while not _in_force(target, state):
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(SETTLE_POLL_S)
    return True


def project_aliases(state: State, registry: Registry) -> list[str]:
    """Set and delete aliases until they say what the record says; return those that were changed.

    A version that waits for its rollout keeps the alias `challenger`: the record does not know it yet. One that was
    deleted there has no alias, and the others have theirs.
    """
    found, changed = registry.aliases(), []
    for role in ROLES:
        revision, shown = getattr(state, role), found.get(role, "")
        wanted = revision.version if revision else ""
        if wanted == shown or (not wanted and role == "challenger" and _waits(shown, state, registry)):
            continue
        try:
            registry.set_alias(role, wanted) if wanted else registry.delete_alias(role)
        except Missing as error:
            progress.report("registry", f"version {wanted} ({role}) has no alias: {error.message}")
            continue
        changed.append(role)
    return changed


def keep_aliases(record: Record, endpoint: str, registry: Registry) -> list[str]:
    """Project the record until it still says the same afterwards; return the aliases that were changed.

    An alias is overwritten blindly: the first to read the record may be the last to write, and has to look again.
    """
    changed: list[str] = []
    state = record.read(endpoint)
    while True:
        changed += project_aliases(state, registry)
        before, state = state, record.read(endpoint)
        if all(getattr(before, role) == getattr(state, role) for role in ROLES):
            return changed


def show_verdict(version: str, verdict: str, reasons: Sequence[str], registry: Registry) -> None:
    """Write what became of a version beside it."""
    reason = "; ".join(reasons)[:LONGEST_REASON]
    registry.tag_version(version, {VERDICT_TAG: verdict, f"{VERDICT_TAG}_reason": reason})


def show_last_verdict(record: Record, endpoint: str, registry: Registry) -> str | None:
    """Say of the version whose rollout ended last what became of it, if its owner died first; the version, if so."""
    state = record.read(endpoint)
    decisions = record.decisions(endpoint, rollout=state.rollout, limit=SEARCHED)
    last = next((decision for decision in decisions if decision["action"] in VERDICTS), None)
    if state.phase != "idle" or last is None:
        return None
    # An A/B test that finishes is one that its challenger has lost.
    lost = last["phase"] == "ab" and last["action"] == "finish"
    version, verdict = last["version"], "rolled_back" if lost else VERDICTS[last["action"]]
    if registry.version(version).tags.get(VERDICT_TAG) == verdict:
        return None
    show_verdict(version, verdict, last["reasons"], registry)
    return version


class Silence:
    """For how long the owner gave no heartbeat, by the monotonic clock: the wall clock can be set."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._seen = clock, clock()
        self._heartbeat: float | None = None

    def seconds(self, heartbeat: float | None) -> float:
        """Seconds since the last heartbeat, whose value is `heartbeat`, was first seen."""
        if heartbeat is None or heartbeat != self._heartbeat:
            self._heartbeat, self._seen = heartbeat, self._clock()
        return self._clock() - self._seen


def is_abandoned(state: State, silent_s: float) -> bool:
    """Whether no process drives what the record says is under way.

    `silent_s`, as `Silence` counts it, tells of an owner that hangs or is elsewhere; one killed here is known at once.
    """
    # An A/B test is driven by a service of the daemon, not by the process that started it.
    dead = state.phase != "ab" and owner.is_dead(state)
    return state.phase != "idle" and (dead or silent_s > ABANDONED_S)


def end_abandoned(record: Record, endpoint: str, silent_s: float) -> State | None:
    """Roll back a rollout that no process drives any more; None when there is nothing to do.

    A watch is not ended: the new champion may yet have to go, so stack/drive.py goes on with it.
    """
    state = record.read(endpoint)
    if state.phase == "watch" or not is_abandoned(state, silent_s):
        return None
    how = "has ended" if owner.is_dead(state) else f"gave no sign of life for {silent_s:.0f} s"
    try:
        return carry_out(record, state, roll_back(state, "abandoned", f"abandoned: whoever drove this rollout {how}"))
    except Superseded:
        return None


def lost_versions(state: State, registry: Registry) -> dict[str, str]:
    """Role to version of what serves, or is on trial, and was deleted in the registry."""
    found = {}
    for role in ROLES:
        if (revision := getattr(state, role)) is not None:
            try:
                registry.version(revision.version)
            except Missing:
                found[role] = revision.version
    return found


def _in_force(target: Target, state: State) -> bool:
    try:
        target.apply(state)
        return target.observe().generation >= state.generation
    except TokkaError:
        return False


def _waits(version: str, state: State, registry: Registry) -> bool:
    """Whether this version may still have its rollout: newer than what serves, and no verdict yet."""
    newest = max((int(revision.version) for revision in (state.champion, state.previous) if revision), default=0)
    return int(version) > newest and VERDICT_TAG not in registry.version(version).tags
