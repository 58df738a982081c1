"""A rollout that a cluster's reconciler drives: say what is wanted, and wait for what comes of it.

The pipeline has no rights on what serves. Where nobody takes the wish up, or nothing is seen to serve, the verdict is
`held`: the champion keeps serving, and no run says "promoted" of what nobody can ask.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

from tokka import progress
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Decision, State
from tokka.deployment.record.target import Observed
from tokka.deployment.record.wishes import Wish, Wishes
from tokka.deployment.review.admission import Admission
from tokka.deployment.rollout import RolloutResult, Verdict, proven_before
from tokka.errors import UsageError
from tokka.params import Params
from tokka.sections_serving import Deployment

STEP = "canary"
POLL_S = 2.0
# Within this time a reconciler takes up what is wanted, and a promoted version is seen to serve.
PICKUP_S, SETTLE_S = 120.0, 300.0
# So long after the last sign of life of any reconciler nobody waits for its successor any more.
SILENT_S = 600.0
# What was seen longer ago, by the record's own clock, may not be so any more.
FRESH_S = 60.0
SAFE = "the champion keeps serving"
PLAN = ("registry", "canary", "serving", "task", "export", "monitoring")


class Seen(NamedTuple):
    """All that the outcome depends on; `decisions` on the version since it was asked for, newest first."""

    wish: Wish | None
    state: State
    decisions: Sequence[Decision]
    lives: bool
    observed: Observed | None
    waited_s: float
    silent_s: float
    # For how long the record has been seen to name it champion, with nothing under way.
    settled_s: float = 0.0


class Standing(TypedDict):
    """How a rollout on a cluster stands: shares in [0, 1], `observed` None when nobody has looked lately.

    evidence: what the judge had when it last said what it waits for, `told` (seconds since 1970).
    """

    version: str
    phase: str
    wanted: float
    observed: float | None
    evidence: dict[str, float]
    told: float
    waits_for: str


def standing(endpoint: str, record: Record) -> Standing | None:
    """How the cluster's rollout of an endpoint stands; None where no reconciler has ever been asked for anything.

    TokkaError when the record does not answer.
    """
    wishes, state = Wishes(record), record.read(endpoint)
    wish, observed = wishes.find(endpoint), wishes.observed(endpoint, FRESH_S)
    if endpoint not in wishes.endpoints():
        return None
    last = next(iter(record.decisions(endpoint, limit=1)), None)
    mine = last if last is not None and last.get("rollout") == state.rollout and state.phase != "idle" else None
    asked = wish.version if wish and not wish.taken else ""
    return {
        "version": asked or (state.on_trial.version if state.on_trial else ""),
        "phase": state.phase, "wanted": state.share, "observed": observed.share if observed else None,
        "evidence": dict(mine.get("values", {})) if mine else {}, "told": mine["time"] if mine else 0.0,
        "waits_for": waits_for(wish, state, mine, lives=wishes.reconciler_lives()),
    }  # fmt: skip


def waits_for(wish: Wish | None, state: State, last: Decision | None, *, lives: bool) -> str:
    """What has to happen next; `last` is the newest decision on the rollout under way. Empty when nothing is wanted."""
    awaited = wish is not None and not wish.taken
    if not lives and (awaited or state.phase != "idle"):
        return "a reconciler: none gives a sign of life"
    if wish is not None and awaited:
        return f"the reconciler, to take version {wish.version} up"
    if state.phase == "idle":
        return ""
    return "; ".join(last["reasons"]) if last and last["action"] == "wait" else f"what comes of the phase {state.phase}"


def target_of(deployment: Deployment, *, in_pod: bool) -> Literal["local", "kserve"]:
    """Where a rollout goes; UsageError for the stack of a pod, which ends with it."""
    if deployment.target == "local" and in_pod:
        raise UsageError(
            "deployment.target is local, but a pod's own stack ends with the pod", "set it to auto or kserve"
        )
    if deployment.target == "auto":
        return "kserve" if in_pod else "local"
    return deployment.target


def is_asked(wish: Wish, version: str, job: str, state: State) -> bool:
    """Whether a wish is what `job` would ask for: its own, or that of a rollout which is under way.

    One that came to its end long ago says nothing of what is wanted now.
    """
    under_way = state.on_trial is not None and state.on_trial.version == version and state.phase != "idle"
    return wish.version == version and (wish.job == job or (wish.taken > 0 and under_way))


def is_about(decision: Decision, wish: Wish) -> bool:
    """Whether a decision came after a wish; by generations, since the clocks of two machines may differ."""
    return decision["generation"] > (wish.generation or 0)


def is_champion(version: str, state: State) -> bool:
    """Whether the record names a version champion, with nothing under way."""
    return state.champion is not None and state.champion.version == version and state.phase == "idle"


def outcome(mine: Wish, seen: Seen) -> tuple[Verdict, str] | None:
    """What came of a wish, with the reason; None while it is under way."""
    state, version = seen.state, mine.version
    if is_champion(version, state) and state.champion is not None:
        digest = state.champion.digest
        if seen.observed is not None and seen.observed.champion == digest and digest in seen.observed.ready:
            return "promoted", state.reason or f"version {version} is the champion, and is seen to serve"
        if seen.settled_s > SETTLE_S:
            return "held", f"the record names version {version} champion, but nothing is seen to serve it"
        return None
    last = next((one for one in seen.decisions if one["action"] != "wait"), None)
    if last is not None and last["action"] == "roll_back" and is_about(last, mine):
        return "rolled_back", "; ".join(last["reasons"])
    if seen.wish is None or (seen.wish.version, seen.wish.asked) != (version, mine.asked):
        challenges = state.on_trial is not None and state.on_trial.version == version and state.phase != "idle"
        return (
            None if challenges else ("superseded", f"version {version} is wanted no more: another one took its place")
        )
    if not seen.wish.taken and seen.waited_s > PICKUP_S:
        who = "the reconciler has not taken it up" if seen.lives else "no reconciler is alive to take it up"
        return "held", f"{who} within {PICKUP_S:.0f} s, so nothing was changed: {SAFE}"
    if seen.wish.taken and seen.silent_s > SILENT_S:
        return "held", f"no reconciler gave a sign of life for {seen.silent_s:.0f} s in mid-rollout: {SAFE}"
    return None


def request_rollout(version: str, admission: Admission, record: Record, params: Params, job: str) -> RolloutResult:
    """Ask for a version's rollout, and wait for its end.

    TokkaError when the record does not answer, or there is no signed evidence; the same call again goes on waiting.
    """
    endpoint, wishes = params.registry.model, Wishes(record)
    digest, standing = admission.bundle(version).model_digest, admission.standing(version)
    if standing.verdict != "approved":
        why = f"(its review: {standing.verdict}, {standing.reason})"
        return RolloutResult("held", (f"version {version} is not approved {why}: nothing was changed",))
    mine = wishes.find(endpoint)
    if mine is None or not is_asked(mine, version, job, record.read(endpoint)):
        if proven := proven_before(record, endpoint, version, digest):
            return RolloutResult("rolled_back", tuple(proven["reasons"]), (proven,))
        mine = wishes.ask(endpoint, version, job, params.model_dump(mode="json", include=set(PLAN)))
    progress.report(STEP, f"version {version} is wanted; waiting for the reconciler")
    found = _await(mine, wishes, record)
    decisions = [one for one in record.decisions(endpoint, version=version) if is_about(one, mine)]
    return RolloutResult(found[0], (found[1],), tuple(reversed(decisions)))


def _is_withdrawn(mine: Wish, wish: Wish | None, wishes: Wishes) -> bool:
    """Want it no more; False for whoever takes it up at this very moment, and is waited for then."""
    is_mine = wish is not None and (wish.version, wish.asked) == (mine.version, mine.asked)
    return wish is None or not is_mine or wishes.withdraw(wish)


def _await(mine: Wish, wishes: Wishes, record: Record) -> tuple[Verdict, str]:
    clock, said = record.clock, ""
    asked = alive = unsettled = clock.monotonic()
    while True:
        lives, state, moment = wishes.reconciler_lives(), record.read(mine.endpoint), clock.monotonic()
        alive, unsettled = moment if lives else alive, unsettled if is_champion(mine.version, state) else moment
        seen = Seen(
            wishes.find(mine.endpoint), state, record.decisions(mine.endpoint, version=mine.version), lives,
            wishes.observed(mine.endpoint, FRESH_S), moment - asked, moment - alive, moment - unsettled,
        )  # fmt: skip
        found = outcome(mine, seen)
        # What is said to be held is wanted no more.
        if found is not None and (found[0] != "held" or _is_withdrawn(mine, seen.wish, wishes)):
            return found
        words = f"{state.phase} at {state.share:.0%}"
        if words != said:
            progress.report(STEP, f"version {mine.version}: {words}")
            said = words
        clock.sleep(POLL_S)
