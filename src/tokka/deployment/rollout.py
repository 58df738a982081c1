"""A rollout: verify, warm up, shadow, steps of live traffic, promote; the record is changed and nothing else.

    rollout = Rollout(version="2", registry=registry, record=record, target=target, params=params, settings=settings,
                      traffic=through_gateway(settings))
    result = rollout.run()
    result.verdict                     # promoted | rolled_back | superseded | held (it waits for a person)

Every move is one compare-and-set of the deployment record together with the decision that led to it, so a rollout
that was killed anywhere goes on from there when it is asked for again, and of two that race the one asked for last
wins. What serves, and the registry's aliases, follow the record. A watch and an A/B test are driven by the same loop.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tokka import files, progress
from tokka.deployment import rollout_files
from tokka.deployment.collector import EvidenceCollector, ReadLog, RequestLog, SendTraffic
from tokka.deployment.judge.phases import Action, next_action, roll_back
from tokka.deployment.reconcile import carry_out, keep_aliases, settle, show_verdict
from tokka.deployment.record import owner
from tokka.deployment.record.clock import Clock, has_jumped, now, restart
from tokka.deployment.record.record import Record, Superseded
from tokka.deployment.record.state import Decision, Phase, Revision, State
from tokka.deployment.record.target import Target
from tokka.deployment.registry import Registry
from tokka.errors import Refused, TokkaError
from tokka.gateway.exposure import reachable
from tokka.params import Params
from tokka.registry.entities import SNAPSHOT
from tokka.registry.publish import fetch_version
from tokka.registry.review import decide_review
from tokka.settings import Settings

STEP = "canary"
POLL_S = 0.5
# A look at an A/B test goes over the whole of it: a long one is looked at less often, for a twentieth of a core at
# most, but often enough that its owner is not taken for dead (reconcile.ABANDONED_S).
REST, LONGEST_POLL_S = 20.0, 20.0
# Requests per second: faster ones would queue on a laptop and make everybody slow.
REPLAY_RATE = 50.0
# A rollback for these reasons was proven; the same version is not tried again unless somebody asks for it.
PROVEN = ("quality", "live", "watch")
FRACTION = {"warm_up": 0.1, "shadow": 0.3, "step": 0.6, "watch": 0.9, "idle": 1.0}

Verdict = Literal["promoted", "rolled_back", "held", "superseded"]


@dataclass(frozen=True)
class RolloutResult:
    """What came of a rollout.

    phases: every decision in the order of time, as the record keeps it: phase, share, action, reasons, e-values.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    phases: tuple[Decision, ...] = field(default=())

    @property
    def share_seen(self) -> float:
        """The highest share of live traffic that was on the challenger when a step was decided."""
        # The looks on the way are of a few requests at first: only what was decided on is a share worth telling.
        seen = [phase["values"].get("step_share", 0.0) for phase in self.phases if phase["action"] != "wait"]
        return max(seen, default=0.0)

    def as_dict(self) -> dict[str, object]:
        """The same as plain data for JSON."""
        return {**asdict(self), "share_seen": self.share_seen}


def through_gateway(settings: Settings) -> SendTraffic:
    """What replays labelled rows through this home's gateway as users would send them, with their truth after."""
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.replay import replay

    url = f"http://{reachable(settings.host)}:{settings.port}"
    return lambda rows: replay(rows, url, rate=REPLAY_RATE, headers=own_headers(settings.home))


def rollback(record: Record, endpoint: str, reason: str) -> State:
    """By hand, at once: take a running challenger away, or else put the previous champion back.

    Raises:
        Refused: there is neither.
        Superseded: a rollout moved at the same moment.
    """
    state = record.read(endpoint)
    if state.challenger is None and state.previous is None:
        raise Refused(f"{endpoint} has no previous champion to go back to", "see tokka status")
    return carry_out(record, state, roll_back(state, "by hand", reason))


@dataclass(frozen=True)
class Rollout:
    """The rollout of one registry version: it owns the generation that it wrote, and ends when that is not the newest.

    Args:
        traffic: used when `canary.replay` is on and too little live traffic comes; None when there is no way to.
        clock, open_log, fetch: where time, request records and verified model folders come from.
    """

    version: str
    registry: Registry
    record: Record
    target: Target
    params: Params
    settings: Settings
    traffic: SendTraffic | None = None
    clock: Clock = time
    open_log: Callable[[], ReadLog] | None = None
    fetch: Callable[[str], Path] | None = None

    @property
    def endpoint(self) -> str:
        """The name of what is rolled out to."""
        return self.params.registry.model

    def run(self, *, again: bool = False) -> RolloutResult:
        """Roll the version out, or go on with its rollout; return when it is promoted or rolled back.

        Args:
            again: try a version once more although evidence has rolled it back before.

        Raises:
            TokkaError: the registry or the record does not answer, or there is no such version. Nothing is half-way
                that calling this again would not finish.
        """
        try:
            return self._run(self.record.read(self.endpoint), again)
        except Superseded as error:
            return self._superseded(error)

    def go_on(self, state: State) -> RolloutResult:
        """Drive a watch or an A/B test that nobody drives, to its end; raises as `run`."""
        try:
            collector = self._collector()
            # An A/B test is not written anew: that could refuse the person who ends it at this moment.
            return self._drive(state if state.phase == "ab" else self._take_over(state), collector)
        except Superseded as error:
            return self._superseded(error)

    def compare(self, state: State, share: float) -> RolloutResult:
        """Verify the version and warm it up for an A/B test; `held` once it has its share.

        Raises:
            Refused: the version is not approved, or not what was signed.
            Superseded: another rollout was faster.
        """
        if (verdict := self._review()) != "approved":
            hint = "see: tokka review show VERSION"
            raise Refused(f"version {self.version} is not approved: its review is {verdict}", hint)
        revision, collector = self._verify(), self._collector()
        return self._drive(self._begin(state, revision, ab_share=share), collector, until="ab")

    def _run(self, state: State, again: bool) -> RolloutResult:
        if state.champion is not None and state.champion.version == self.version:
            if state.phase == "watch":
                return self.go_on(state)
            return self._finish("promoted", (f"version {self.version} is the champion already",), state.rollout)
        mine = state.challenger is not None and state.challenger.version == self.version
        if not mine and not again and (proven := self._proven_before()):
            return self._finish("rolled_back", tuple(proven["reasons"]), proven.get("rollout", ""))
        if state.phase == "ab" and state.challenger is not None:
            ending = "end it with `tokka ab stop`, then run again"
            return self._result("held", (f"version {state.challenger.version} is in an A/B test: {ending}",))
        if self._review() == "waiting":
            return self._result("held", (f"version {self.version} waits for its review: nothing was changed",))
        try:
            revision = self._verify()
        except Refused as error:
            return self._refused(state, error)
        # Made before the endpoint is taken: what the registry does not give leaves nothing half-way.
        collector = self._collector()
        return self._drive(self._begin(state, revision), collector)

    def _proven_before(self) -> Decision | None:
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
        folder = (self.fetch or (lambda name: fetch_version(name, self.params, self.settings)))(self.version)
        return Revision(version=self.version, digest=folder.name, snapshot=tags.get(SNAPSHOT, ""))

    def _refused(self, state: State, error: Refused) -> RolloutResult:
        decision = Action("roll_back", "refused", (error.message,)).describe(state, self.clock.time())
        decision |= {"version": self.version, "phase": "verify"}
        self.record.add_decision(state, decision)
        return self._finish("rolled_back", (f"refused before anything was changed: {error.message}",), "", (decision,))

    def _begin(self, state: State, revision: Revision, *, ab_share: float = 0.0) -> State:
        """Take the endpoint: go on with this version's own rollout, or start one in the place of whatever runs."""
        if state.challenger == revision and not state.ab_share:
            progress.report(STEP, f"version {self.version}: going on from phase {state.phase}")
            return self._take_over(state)
        other = state.challenger
        if other is not None and not owner.is_dead(state) and _is_newer(other.version, self.version):
            raise Superseded(f"version {other.version} is newer and rolls out now")
        name = files.digest_json([self.endpoint, revision.version, revision.digest, state.generation])[:16]
        rollout_files.write_params(self.settings.home, name, self.params)
        return self.record.compare_and_set(
            state, challenger=revision, share=0.0, ab_share=ab_share, phase="warm_up", rollout=name, reason="",
            started=self.clock.time(),
        )  # fmt: skip

    def _take_over(self, state: State) -> State:
        return self.record.compare_and_set(state, **restart(state, self.clock))

    def _collector(self) -> EvidenceCollector:
        open_log = self.open_log or (lambda: RequestLog(self.settings.home / "requests"))
        return EvidenceCollector(
            version=self.version, registry=self.registry, target=self.target, params=self.params,
            home=self.settings.home, traffic=self.traffic, open_log=open_log, clock=self.clock,
        )  # fmt: skip

    def _drive(self, state: State, collector: EvidenceCollector, until: Phase = "idle") -> RolloutResult:
        """Look, decide and write it down, again and again, until nothing rolls out or a phase is reached."""
        topic = ""
        promotion: tuple[str, ...] = (state.reason,) if state.phase == "watch" else ()
        while True:
            began = self.clock.monotonic()
            # What it does not manage to bring about, it does not observe either.
            with contextlib.suppress(TokkaError):
                self.target.apply(state)
            if has_jumped(state, self.clock):
                progress.report(STEP, "somebody has set the clock: what was seen before counts no more")
                state = self._take_over(state)
                collector.restart()
            action = next_action(state, collector.gather(state), self.params.canary, now(state, self.clock))
            rollout_files.write(self.settings.home, state, action, self.clock.time())
            if action.kind != "wait":
                state, topic = carry_out(self.record, state, action), ""
                self._report(state, action)
                if state.phase in ("idle", until):
                    return self._ended(state, action, promotion)
                promotion = action.reasons if action.kind == "promote" else promotion
                continue
            self.record.heartbeat(state)
            if action.topic != topic:
                self.record.add_decision(state, action.describe(state, self.clock.time()))
                self._report(state, action)
                topic = action.topic
            self.clock.sleep(self._pause(state, self.clock.monotonic() - began))

    def _pause(self, state: State, look_s: float) -> float:
        return min(LONGEST_POLL_S, max(POLL_S, REST * look_s)) if state.phase == "ab" else POLL_S

    def _ended(self, state: State, action: Action, promotion: tuple[str, ...]) -> RolloutResult:
        if state.phase == "ab":
            return self._result("held", action.reasons, state.rollout)
        if action.kind == "roll_back":
            return self._finish("rolled_back", action.reasons, state.rollout)
        return self._finish("promoted", (*promotion, *action.reasons), state.rollout)

    def _superseded(self, error: Superseded) -> RolloutResult:
        """Someone else drives now. A version that was promoted before that is so still, unless it was taken back."""
        last, champion = error.expected, self.record.read(self.endpoint).champion
        name = last.rollout if last and last.on_trial and last.on_trial.version == self.version else ""
        if last and last.phase == "watch" and champion is not None and champion.version == self.version:
            return self._result("promoted", (last.reason, "the watch was cut short by another change"), name)
        return self._result("superseded", (error.message,), name)

    def _finish(
        self, verdict: Verdict, reasons: tuple[str, ...], rollout: str, phases: tuple[Decision, ...] = ()
    ) -> RolloutResult:
        """Tell the registry; it only shows what the record says, so its silence does not undo a verdict."""
        if not settle(self.target, self.record.read(self.endpoint), self.clock):
            progress.report(STEP, "the endpoint does not serve what was decided yet; its daemon goes on trying")
        try:
            show_verdict(self.version, verdict, reasons, self.registry)
            keep_aliases(self.record, self.endpoint, self.registry)
        except TokkaError as error:
            progress.report(STEP, f"the registry will show this later: {error.message}")
        return self._result(verdict, reasons, rollout, phases)

    def _result(
        self, verdict: Verdict, reasons: tuple[str, ...], rollout: str = "", phases: tuple[Decision, ...] = ()
    ) -> RolloutResult:
        if rollout and not phases:
            phases = tuple(reversed(self.record.decisions(self.endpoint, rollout=rollout, version=self.version)))
        return RolloutResult(verdict, reasons, phases)

    def _report(self, state: State, action: Action) -> None:
        where = f"version {self.version}, {state.phase} at {state.share:.0%}"
        message = f"{where}: {action.kind}, {'; '.join(action.reasons)}"
        progress.report(STEP, message, fraction=FRACTION.get(state.phase), values=action.values)


def _is_newer(one: str, other: str) -> bool:
    return one.isdigit() and other.isdigit() and int(one) > int(other)
