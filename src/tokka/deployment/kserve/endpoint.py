"""One endpoint as the reconciler looks after it: takes up what is wanted, drives it, and projects the record."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from tokka.deployment import loop
from tokka.deployment.judge.phases import Action, roll_back
from tokka.deployment.kserve.events import Events
from tokka.deployment.kserve.evidence import ClusterLog, read_archive
from tokka.deployment.kserve.inference_service import require_name, whole_percent
from tokka.deployment.kserve.modes import Mode, choose, look
from tokka.deployment.kserve.predictors import Predictors
from tokka.deployment.kserve.target import KServeTarget, Plan
from tokka.deployment.reconcile import carry_out, keep_aliases, show_last_verdict
from tokka.deployment.record.attempts import Attempts, oldest_deletable
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Decision, State
from tokka.deployment.record.target import Answer, Observed, Question, Target
from tokka.deployment.record.wishes import Wish, Wishes
from tokka.deployment.registry import Registry
from tokka.deployment.rollout import Rollout
from tokka.errors import Refused, TokkaError, UsageError
from tokka.kubernetes.api import Api
from tokka.params import Params, parse_params
from tokka.request_log import archive
from tokka.request_log.segments import GIGABYTE
from tokka.settings import Settings

logger = logging.getLogger("tokka.reconciler")

Todo = Literal["drive", "go_on", "give_up", "project"]
# What becomes of a rollout under way when what is wanted changes.
Turn = Literal["", "ended", "begun anew"]
SHOW_S, ALIASES_S = 2.0, 60.0
UNWANTED = "it is wanted no more"
# Older decisions are told by nobody any more.
RECENT_S = 600.0


def decide(state: State, wish: Wish | None, decisions: Sequence[Decision]) -> Todo:
    """What to do for an endpoint; `decisions` on the wish's version, newest first. Pure.

    An A/B test is a person's: what is wanted meanwhile is not taken up.
    """
    on_trial = state.on_trial.version if state.on_trial and state.phase != "idle" else None
    if wish is not None and not is_over(wish, state, decisions):
        return "go_on" if state.phase == "ab" and on_trial != wish.version else "drive"
    if state.phase in ("watch", "ab"):
        return "go_on"
    return "give_up" if on_trial else "project"


def is_over(wish: Wish, state: State, decisions: Sequence[Decision]) -> bool:
    """Whether a wish has come to its end: its version serves, or was taken away since it was asked for."""
    if state.phase == "idle" and state.champion is not None and state.champion.version == wish.version:
        return True
    if state.phase != "idle" and state.on_trial is not None and state.on_trial.version == wish.version:
        return False
    last = next((one for one in decisions if one["action"] != "wait"), None)
    return last is not None and last["action"] == "roll_back" and last["time"] >= wish.asked


def turn_of(state: State, wish: Wish | None) -> Turn:
    """What becomes of a rollout that is driven now, since what is wanted may have changed meanwhile. Pure.

    It ends when nothing is wanted any more, or a newer version in its place. Asked for again, by another plan perhaps,
    it goes on from its phase by that. A promoted version is watched all the same, and an A/B test is a person's.
    """
    if state.challenger is None or state.phase in ("idle", "watch", "ab"):
        return ""
    if wish is None:
        return "ended"
    if wish.taken or int(wish.version) < int(state.challenger.version):
        return ""
    return "begun anew" if wish.version == state.challenger.version else "ended"


def give_up(record: Record, state: State, reason: str) -> State:
    """Take a challenger away that is not judged any further; Superseded when the record has moved."""
    return carry_out(record, state, roll_back(state, "unwanted", reason))


class Shown:
    """A target whose observations are written down for the pipeline, and whose decisions become Events.

    `looked` is called after each look at the cluster that was completed.
    """

    def __init__(
        self, inner: Target, endpoint: str, record: Record, events: Events, clock: Clock, looked: Callable[[], None]
    ) -> None:
        self._inner, self._endpoint, self._record, self._looked = inner, endpoint, record, looked
        self._events, self._clock, self._due = events, clock, 0.0
        self._state: State | None = None
        self._trouble = ""

    def apply(self, state: State) -> None:
        """As the target; what it refuses is logged, and said of the challenger, since the loop only waits then.

        Of what is wanted no more, or otherwise, the record is written anew, which the loop of its rollout finds out.
        """
        self._state = state
        self._follow(state)
        try:
            self._inner.apply(state)
            self._trouble = ""
        except Refused as error:
            self._trouble = f"{error.message}; {error.hint}".removesuffix("; ")
            logger.warning("%s: %s", self._endpoint, error.message)
            raise
        except TokkaError as error:
            logger.warning("%s: %s", self._endpoint, error.message)
            raise

    def _follow(self, state: State) -> None:
        if state.challenger is None:
            return
        wish = Wishes(self._record).find(self._endpoint)
        turn = turn_of(state, wish)
        if turn == "ended":
            give_up(self._record, state, f"version {wish.version} is wanted in its place" if wish else UNWANTED)
        elif turn:
            # Nothing is changed by it: whoever drives begins at this phase again, by the plan of now.
            self._record.compare_and_set(state)

    def _seen(self) -> Observed:
        """As the target; before a first version was taken by the cluster there is nothing to observe but why."""
        try:
            observed = self._inner.observe()
        except TokkaError:
            if not self._trouble or self._state is None or self._state.champion is not None:
                raise
            observed = Observed()
        challenger = self._state.challenger if self._state else None
        if self._trouble and challenger and challenger.digest not in observed.ready:
            told = {**observed.problems, challenger.digest: self._trouble}
            observed = observed.model_copy(update={"problems": told})
        self._looked()
        return observed

    def observe(self) -> Observed:
        """As the target."""
        observed = self._seen()
        if self._clock.monotonic() >= self._due:
            self._due = self._clock.monotonic() + SHOW_S
            Wishes(self._record).show(self._endpoint, observed)
            for decision in reversed(self._record.decisions(self._endpoint, limit=10)):
                if self._clock.time() - decision["time"] < RECENT_S:
                    self._events.decided(decision)
        return observed

    def infer(self, digest: str, rows: Sequence[Question]) -> list[Answer]:
        """As the target."""
        return self._inner.infer(digest, rows)


class Endpoint:
    """One endpoint; `turn` is called again and again, and drives a rollout to its end within one call."""

    def __init__(
        self, name: str, record: Record, params: Params, settings: Settings, api: Api, predictors: Predictors,
        open_registry: Callable[[Params], Registry], clock: Clock,
    ) -> None:  # fmt: skip
        self.name, self._record, self._own, self._settings = name, record, params, settings
        self._api, self._predictors, self._clock = api, predictors, clock
        self._open_registry, self._wishes = open_registry, Wishes(record)
        self._events = Events(name, api, clock)
        self._mode: Mode | None = None
        self._target: tuple[Plan, KServeTarget] | None = None
        # When a look at the cluster was completed last, by the monotonic clock.
        self.looked = clock.monotonic()
        self._aliases: tuple[int, float] = (-1, 0.0)

    def turn(self) -> None:
        """Do what is to be done now; raises TokkaError when record, registry or cluster do not answer."""
        state, wish = self._record.read(self.name), self._wishes.find(self.name)
        decisions = self._record.decisions(self.name, version=wish.version) if wish else []
        todo = decide(state, wish, decisions)
        if todo == "drive" and wish is not None:
            self._drive(wish, state)
        elif todo == "go_on":
            loop.go_on(self._rollout(state.on_trial.version if state.on_trial else "", self._params(wish)), state)
        elif todo == "give_up":
            give_up(self._record, state, UNWANTED)
        self._project(wish)
        self._look()

    def tidy(self) -> None:
        """Seal what the pods have logged, and delete what is too old or too much and not needed; as on a laptop.

        TokkaError when archive or record does not answer; then nothing is deleted.
        """
        if not archive.has_archive(self._settings):
            return
        state, now = self._record.read(self.name), self._clock.time()
        archive.seal_idle(self._settings, self.name, now)
        monitoring = self._usable(self._wishes.find(self.name)).monitoring
        attempts = Attempts(self._record).all(self.name)
        oldest = oldest_deletable(state, attempts, days=monitoring.retention_days, now=now)
        if oldest is not None:
            archive.delete_old(self._settings, self.name, oldest, monitoring.retention_gb * GIGABYTE)

    def _look(self) -> None:
        self.looked = self._clock.monotonic()

    def _drive(self, wish: Wish, state: State) -> None:
        if not self._wishes.take(wish):
            return
        if state.challenger is not None and state.challenger.version != wish.version:
            # Who holds the lease drives: whoever rolled that one out is gone.
            state = give_up(self._record, state, f"version {wish.version} is wanted in its place")
        try:
            params = self._params(wish)
            require_name(self.name)
            for step in params.canary.steps:
                whole_percent(step)
            rollout = self._rollout(wish.version, params)
        except (Refused, UsageError) as error:
            self._refuse(wish, state, f"{error.message}; {error.hint}")
            return
        result = loop.run_rollout(rollout, again=True)
        logger.info("%s version %s: %s, %s", self.name, wish.version, result.verdict, "; ".join(result.reasons))
        if result.verdict == "held":
            self._refuse(wish, self._record.read(self.name), "; ".join(result.reasons))

    def _refuse(self, wish: Wish, state: State, reason: str) -> None:
        """Nothing is changed; the pipeline that waits is told why."""
        decision = Action("roll_back", "refused", (reason,)).describe(state, self._clock.time())
        self._record.add_decision(state, decision | {"version": wish.version, "phase": "verify"})

    def _project(self, wish: Wish | None) -> None:
        state = self._record.read(self.name)
        if state.generation == 0:
            return
        params = self._usable(wish)
        target = self._shown(params)
        target.apply(state)
        if state.champion is not None:
            target.observe()
        generation, moment = self._aliases
        if state.generation != generation or self._clock.monotonic() - moment > ALIASES_S:
            registry = self._open_registry(params)
            show_last_verdict(self._record, self.name, registry)
            keep_aliases(self._record, self.name, registry)
            self._aliases = state.generation, self._clock.monotonic()

    def _params(self, wish: Wish | None) -> Params:
        """What a rollout is judged by: the plan that came with the wish, for the rest the reconciler's own."""
        own = self._own.model_dump(mode="json")
        params = parse_params({**own, **(wish.plan if wish else {})}, "the plan of the wish")
        return params.model_copy(update={"registry": params.registry.model_copy(update={"model": self.name})})

    def _usable(self, wish: Wish | None) -> Params:
        """As `_params`; of a plan that cannot be read, which is refused, the reconciler's own."""
        try:
            return self._params(wish)
        except TokkaError:
            return self._params(None)

    def _rollout(self, version: str, params: Params) -> Rollout:
        inner = self._open(params)
        return Rollout(
            version=version, registry=self._open_registry(params), record=self._record,
            target=self._shown(params), params=params, settings=self._settings, clock=self._clock,
            open_log=lambda since: ClusterLog(
                inner.meter, read_archive(self._settings, since, self.name), self._clock, since
            ),
        )  # fmt: skip

    def _shown(self, params: Params) -> Shown:
        return Shown(self._open(params), self.name, self._record, self._events, self._clock, self._look)

    def _open(self, params: Params) -> KServeTarget:
        """The target, anew when the plan has changed; Refused where KServe cannot split."""
        own = self._own.deployment
        told = {**params.serving.to_workers, "store_text": params.monitoring.store_text}
        plan = Plan(
            params.serving.workers, own.maximum_pods, params.canary.slow_ms, own.drain_s,
            told=json.dumps(told, sort_keys=True),
        )  # fmt: skip
        if self._target is None or self._target[0] != plan:
            self._mode = self._mode or choose(look(self._api))
            target = KServeTarget(
                self.name, self._mode, plan, self._api, self._predictors, self._clock, self._events.healed
            )
            self._target = plan, target
        return self._target[1]
