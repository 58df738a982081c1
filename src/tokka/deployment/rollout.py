"""A rollout: verify, warm up, shadow, steps of live traffic, promote; the record is changed and nothing else.

    result = run_rollout(version="2", registry=registry, record=record, target=target, params=params,
                         settings=settings, traffic=replay)
    result.verdict                     # promoted | rolled_back | superseded | held (it waits for a review)

Every move is one compare-and-set of the deployment record together with the decision that led to it, so a rollout
that was killed anywhere goes on from there when it is asked for again, and of two that race the one asked for last
wins. What serves, and the registry's aliases, follow the record.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokka import files, progress
from tokka.deployment import rollout_files
from tokka.deployment.collector import Gatherer, ReadLog, RequestLog
from tokka.deployment.judge.decisions import RolloutResult, Verdict, describe
from tokka.deployment.judge.phases import Action, Evidence, next_action
from tokka.deployment.reconcile import keep_aliases, show_verdict
from tokka.deployment.record import owner
from tokka.deployment.record.clock import has_jumped, now, restart
from tokka.deployment.record.record import Clock, Record, Superseded
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Target
from tokka.deployment.settling import settle
from tokka.errors import Refused, TokkaError
from tokka.gateway.exposure import reachable
from tokka.params import Params
from tokka.registry.entities import SNAPSHOT
from tokka.registry.publish import fetch_version
from tokka.registry.review import decide_review
from tokka.settings import Settings

STEP = "canary"
POLL_S = 0.5
# Requests per second: faster ones would queue on a laptop and make everybody slow.
REPLAY_RATE = 50.0
# A rollback for these reasons was proven; the same version is not tried again unless somebody asks for it.
PROVEN = ("quality", "live", "watch")
FRACTION = {"warm_up": 0.1, "shadow": 0.3, "step": 0.6, "watch": 0.9, "idle": 1.0}


def run_rollout(
    *,
    version: str,
    registry: Any,
    record: Record,
    target: Target,
    params: Params,
    settings: Settings,
    traffic: Callable[..., Any] | None = None,
    again: bool = False,
    clock: Clock = time,
    open_log: Callable[[], ReadLog] | None = None,
    fetch: Callable[[str], Path] | None = None,
) -> RolloutResult:
    """Roll a registry version out, or go on with its rollout; return when it is promoted or rolled back.

    Args:
        traffic: as `tokka.gateway.replay.replay`; used when `canary.replay` is on and too little live traffic comes.
        again: try a version once more although evidence has rolled it back before.
        clock, open_log, fetch: where time, request records and verified model folders come from.

    Raises:
        TokkaError: the registry or the record does not answer, or there is no such version. Nothing is half-way that
            calling this again would not finish.
    """
    rollout = _Rollout(version, registry, record, target, params, settings, clock)
    rollout.open_log = open_log or (lambda: RequestLog(settings.home / "requests"))
    rollout.traffic = _through_gateway(traffic, settings)
    rollout.fetch = fetch or (lambda version: fetch_version(version, params, settings))
    try:
        return rollout.run(again)
    except Superseded as error:
        return rollout.superseded(error)


def rollback(record: Record, endpoint: str, reason: str) -> State:
    """By hand, at once: take a running challenger away, or else put the previous champion back.

    Raises:
        Refused: there is neither.
        Superseded: a rollout moved at the same moment.
    """
    state = record.read(endpoint)
    if state.challenger is not None:
        changes: dict[str, Any] = {"challenger": None, "share": 0.0}
    elif state.previous is not None:
        changes = {"champion": state.previous, "previous": None}
    else:
        raise Refused(f"{endpoint} has no previous champion to go back to", "see tokka status")
    left = state.challenger or state.champion
    action = Action("roll_back", "by hand", (reason,), {**changes, "phase": "idle", "reason": reason})
    decision = describe(action, state, left.version if left else "", record.clock.time())
    return record.compare_and_set(state, decision=decision, **action.changes)


class _Rollout:
    """One call of `run_rollout`: it owns the generation that it wrote, and stops as soon as that is not the newest."""

    open_log: Callable[[], ReadLog]
    traffic: Callable[..., Any] | None
    fetch: Callable[[str], Path]

    def __init__(
        self,
        version: str,
        registry: Any,
        record: Record,
        target: Target,
        params: Params,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.version, self.registry, self.record, self.target = version, registry, record, target
        self.params, self.settings, self.clock = params, settings, clock
        self.endpoint = params.registry.model
        self.rollout = ""
        self.promoted: Action | None = None

    def run(self, again: bool) -> RolloutResult:
        state = self.record.read(self.endpoint)
        if state.champion is not None and state.champion.version == self.version:
            return self._already_champion(state)
        proven = None if again or self._is_mine(state) else self._proven_before()
        if proven is not None:
            return self._finish("rolled_back", tuple(proven["reasons"]), proven.get("rollout", ""))
        if state.phase == "ab":
            compared = state.challenger.version if state.challenger else ""
            return self._result(
                "held", (f"version {compared} is in an A/B test: end it with `tokka ab stop`, then run again",)
            )
        if self._review() == "waiting":
            return self._result("held", (f"version {self.version} waits for its review: nothing was changed",))
        try:
            revision = self._verify()
        except Refused as error:
            return self._refused(state, error)
        # Made before the endpoint is taken: what the registry does not give leaves nothing half-way.
        gatherer = self._gatherer()
        return self._drive(self._begin(state, revision), gatherer)

    def superseded(self, error: Superseded) -> RolloutResult:
        """Someone else drives now. A version that was promoted before that is so still, unless it was taken back."""
        champion = self.record.read(self.endpoint).champion
        if self.promoted and champion is not None and champion.version == self.version:
            return self._result("promoted", (*self.promoted.reasons, "the watch was cut short by another change"))
        return self._result("superseded", (error.message,))

    def _already_champion(self, state: State) -> RolloutResult:
        self.rollout = state.rollout
        if state.phase == "watch":
            self.promoted = Action("promote", "promoted", (state.reason,))
            gatherer = self._gatherer()
            return self._drive(self._take_over(state), gatherer)
        return self._finish("promoted", (f"version {self.version} is the champion already",), state.rollout)

    def _is_mine(self, state: State) -> bool:
        return state.challenger is not None and state.challenger.version == self.version

    def _proven_before(self) -> dict[str, Any] | None:
        """The decision that ended this version's last rollout, when evidence ended it."""
        for decision in self.record.decisions(self.endpoint, version=self.version, limit=1000):
            if decision["action"] in ("roll_back", "promote"):
                return decision if decision["action"] == "roll_back" and decision["topic"] in PROVEN else None
        return None

    def _review(self) -> str:
        return decide_review(self.params.registry.review, self.registry.version(self.version).tags)

    def _verify(self) -> Revision:
        """Fetch the model and check signature, digest and review before anything is changed.

        Raises:
            Refused: one of them does not hold.
        """
        tags = self.registry.version(self.version).tags
        if self._review() == "refused":
            raise Refused(f"version {self.version} was refused", "see: tokka review show VERSION")
        progress.report(STEP, f"version {self.version}: signature and digest", fraction=0.05)
        return Revision(version=self.version, digest=self.fetch(self.version).name, snapshot=tags.get(SNAPSHOT, ""))

    def _refused(self, state: State, error: Refused) -> RolloutResult:
        action = Action("roll_back", "refused", (error.message,))
        decision = describe(action, state, self.version, self.clock.time(), phase="verify")
        self.record.add_decision(state, decision)
        return self._finish("rolled_back", (f"refused before anything was changed: {error.message}",), "", (decision,))

    def _begin(self, state: State, revision: Revision) -> State:
        """Take the endpoint: go on with this version's own rollout, or start one in the place of whatever runs."""
        if state.challenger == revision and state.phase not in ("verify", "ab"):
            self.rollout = state.rollout
            progress.report(STEP, f"version {self.version}: going on from phase {state.phase}")
            return self._take_over(state)
        other = state.challenger
        if other is not None and not owner.is_dead(state) and _is_newer(other.version, self.version):
            raise Superseded(f"version {other.version} is newer and rolls out now")
        self.rollout = files.digest_json([self.endpoint, revision.version, revision.digest, state.generation])[:16]
        rollout_files.write_params(self.settings.home, self.rollout, self.params)
        return self.record.compare_and_set(
            state, challenger=revision, share=0.0, phase="warm_up", rollout=self.rollout, reason="",
            started=self.clock.time(),
        )  # fmt: skip

    def _take_over(self, state: State) -> State:
        return self.record.compare_and_set(state, **restart(state, self.clock))

    def _gatherer(self) -> Gatherer:
        return Gatherer(
            version=self.version, registry=self.registry, target=self.target, params=self.params,
            home=self.settings.home, traffic=self.traffic, read_log=self.open_log(), clock=self.clock,
        )  # fmt: skip

    def _drive(self, state: State, gatherer: Gatherer) -> RolloutResult:
        topic, evidence, usual = "", Evidence(), None
        while True:
            self._apply(state)
            if has_jumped(state, self.clock):
                progress.report(STEP, "somebody has set the clock: what was seen before counts no more")
                usual = evidence.before if state.phase == "watch" and usual is None else usual
                state, gatherer = self._take_over(state), self._gatherer()
            evidence = gatherer.gather(state)
            evidence = evidence if usual is None else replace(evidence, before=usual)
            action = next_action(state, evidence, self.params.canary, now(state, self.clock))
            rollout_files.write(self.settings.home, state, self.version, action, self.clock.time())
            if action.kind != "wait":
                state, topic = self._move(state, action), ""
                if state.phase == "idle":
                    return self._ended(state, action)
                continue
            self.record.beat(state)
            if action.topic != topic:
                self.record.add_decision(state, self._decision(state, action))
                self._report(state, action)
                topic = action.topic
            self.clock.sleep(POLL_S)

    def _apply(self, state: State) -> None:
        # What it does not manage to bring about, it does not observe either.
        with contextlib.suppress(TokkaError):
            self.target.apply(state)

    def _move(self, state: State, action: Action) -> State:
        new = self.record.compare_and_set(state, decision=self._decision(state, action), **action.changes)
        if action.kind == "promote":
            self.promoted = action
        self._report(new, action)
        return new

    def _ended(self, state: State, action: Action) -> RolloutResult:
        if action.kind == "roll_back":
            return self._finish("rolled_back", action.reasons, state.rollout)
        earlier = self.promoted.reasons if self.promoted and self.promoted is not action else ()
        return self._finish("promoted", (*earlier, *action.reasons), state.rollout)

    def _finish(
        self, verdict: Verdict, reasons: tuple[str, ...], rollout: str, phases: tuple[dict[str, Any], ...] = ()
    ) -> RolloutResult:
        """Tell the registry; it only shows what the record says, so its silence does not undo a verdict."""
        self.rollout = rollout
        state = self.record.read(self.endpoint)
        if not settle(self.target, state, self.clock):
            progress.report(STEP, "the endpoint does not serve what was decided yet; its daemon goes on trying")
        try:
            show_verdict(self.version, verdict, reasons, self.registry)
            keep_aliases(self.record, self.endpoint, self.registry)
        except TokkaError as error:
            progress.report(STEP, f"the registry will show this later: {error.message}")
        return self._result(verdict, reasons, phases)

    def _result(
        self, verdict: Verdict, reasons: tuple[str, ...], phases: tuple[dict[str, Any], ...] = ()
    ) -> RolloutResult:
        if self.rollout and not phases:
            phases = tuple(reversed(self.record.decisions(self.endpoint, rollout=self.rollout, version=self.version)))
        # The looks on the way are of a few requests at first: only what was decided on is a share worth telling.
        seen = [phase["values"].get("step_share", 0.0) for phase in phases if phase["action"] != "wait"]
        return RolloutResult(verdict, reasons, phases, max(seen, default=0.0))

    def _decision(self, state: State, action: Action) -> dict[str, Any]:
        return describe(action, state, self.version, self.clock.time())

    def _report(self, state: State, action: Action) -> None:
        where = f"version {self.version}, {state.phase} at {state.share:.0%}"
        message = f"{where}: {action.kind}, {'; '.join(action.reasons)}"
        progress.report(STEP, message, fraction=FRACTION.get(state.phase), values=action.values)


def _is_newer(one: str, other: str) -> bool:
    return one.isdigit() and other.isdigit() and int(one) > int(other)


def _through_gateway(traffic: Callable[..., Any] | None, settings: Settings) -> Callable[..., Any] | None:
    if traffic is None:
        return None
    return lambda rows: traffic(rows, f"http://{reachable(settings.host)}:{settings.port}", rate=REPLAY_RATE)
