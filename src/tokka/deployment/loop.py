"""The loop of a rollout: verify, warm up, shadow, steps of live traffic, promote; the record is changed, nothing else.

Every move is one compare-and-set of the deployment record together with the decision that led to it, so a rollout
that was killed anywhere goes on from there when it is asked for again, and of two that race the one asked for last
wins. What serves, and the registry's aliases, follow the record. A watch and an A/B test are driven by the same loop.
"""

import contextlib
from dataclasses import replace

from tokka import files, progress
from tokka.deployment import rollout_files
from tokka.deployment.collector import EvidenceCollector
from tokka.deployment.judge.phases import Action, next_action, roll_back
from tokka.deployment.reconcile import carry_out, keep_aliases, settle, show_verdict
from tokka.deployment.record import owner
from tokka.deployment.record.clock import has_jumped, now, restart
from tokka.deployment.record.record import Superseded
from tokka.deployment.record.state import Decision, Phase, Revision, State
from tokka.deployment.rollout import Rollout, RolloutResult, Verdict, proven_before
from tokka.errors import Refused, TokkaError
from tokka.registry.bundle import Bundle
from tokka.registry.entities import SNAPSHOT
from tokka.registry.publish import fetch_model

STEP = "canary"
POLL_S = 0.5
# A look at a long A/B test takes its time: it rests between looks, and is not taken for dead (ABANDONED_S).
REST, LONGEST_POLL_S = 20.0, 20.0
FRACTION = {"warm_up": 0.1, "shadow": 0.3, "step": 0.6, "watch": 0.9, "idle": 1.0}


def run_rollout(rollout: Rollout, *, again: bool = False) -> RolloutResult:
    """Roll the version out, or go on with its rollout, until it is promoted, rolled back, or held for a person.

    With `again` also a version that evidence has rolled back before. TokkaError when registry or record do not answer,
    or there is no such version; the same call again finishes it.
    """
    try:
        return _run(rollout, rollout.record.read(rollout.endpoint), again)
    except Superseded as error:
        return _superseded(rollout, error)


def go_on(rollout: Rollout, state: State) -> RolloutResult:
    """Drive a watch or an A/B test that no process drives, to its end; raises as `run_rollout`."""
    try:
        collector = EvidenceCollector(rollout)
        # An A/B test is not written anew: that could refuse the person who ends it at this moment.
        if state.phase != "ab":
            state = rollout.record.compare_and_set(state, **restart(state, rollout.clock))
        return _drive(rollout, state, collector)
    except Superseded as error:
        return _superseded(rollout, error)


def compare(rollout: Rollout, state: State, share: float) -> RolloutResult:
    """Verify the version and warm it up for an A/B test; `held` once it has its share.

    Refused when it is not approved or not what was signed, Superseded when another rollout was faster.
    """
    if (standing := rollout.admitted_by.standing(rollout.version)).verdict != "approved":
        problem = f"version {rollout.version} is not approved, its review is {standing.verdict}: {standing.reason}"
        raise Refused(problem, "see: tokka review show VERSION")
    revision, collector = _verify(rollout), EvidenceCollector(rollout)
    return _drive(rollout, _begin(rollout, state, revision, ab_share=share), collector, until="ab")


def _run(rollout: Rollout, state: State, again: bool) -> RolloutResult:
    if state.champion is not None and state.champion.version == rollout.version:
        if state.phase == "watch":
            return go_on(rollout, state)
        return _finish(rollout, "promoted", (f"version {rollout.version} is the champion already",), state.rollout)
    mine = state.challenger is not None and state.challenger.version == rollout.version
    try:
        bundle = rollout.admitted_by.bundle(rollout.version)
    except Refused as error:
        return _refused(rollout, state, error.message)
    digest = bundle.model_digest
    if state.champion is not None and state.champion.digest == digest:
        reason = f"version {rollout.version} is the model of version {state.champion.version}, which is the champion"
        return _result(rollout, "held", (f"{reason}: nothing was changed",))
    if not mine and not again and (proven := proven_before(rollout.record, rollout.endpoint, rollout.version, digest)):
        return _proven(rollout, proven)
    if state.phase == "ab" and state.challenger is not None:
        ending = "end it with `tokka ab stop`, then run again"
        return _result(rollout, "held", (f"version {state.challenger.version} is in an A/B test: {ending}",))
    standing = rollout.admitted_by.standing(rollout.version)
    if standing.verdict == "waiting":
        reason = f"version {rollout.version} waits for its review, {standing.reason}: nothing was changed"
        return _result(rollout, "held", (reason,))
    try:
        if standing.verdict == "refused":
            raise Refused(f"version {rollout.version} was refused: {standing.reason}")
        revision = _verify(rollout)
    except Refused as error:
        return _refused(rollout, state, error.message)
    # Made before the endpoint is taken: what the registry does not give leaves nothing half-way.
    collector = EvidenceCollector(rollout)
    return _drive(rollout, _begin(rollout, state, revision), collector)


def _proven(rollout: Rollout, proven: Decision) -> RolloutResult:
    """What evidence rolled back before stays so, under another version number as well."""
    reasons = tuple(proven["reasons"])
    if proven["version"] != rollout.version:
        reasons = (f"this model was rolled back before, as version {proven['version']}", *reasons)
    return _finish(rollout, "rolled_back", reasons, proven["rollout"])


def _verify(rollout: Rollout) -> Revision:
    """Check the signed evidence, fetch the model, and check signature and digest before anything is changed.

    Refused when one does not hold.
    """
    progress.report(STEP, f"version {rollout.version}: signature and digest", fraction=0.05)
    _model(rollout, bundle := rollout.admitted_by.bundle(rollout.version))
    snapshot = rollout.registry.version(rollout.version).tags.get(SNAPSHOT, "")
    return Revision(version=rollout.version, digest=bundle.model_digest, snapshot=snapshot)


def _model(rollout: Rollout, bundle: Bundle) -> None:
    fetch = rollout.fetch or (lambda one: fetch_model(one.run_id, one.model_digest, rollout.params, rollout.settings))
    if (found := fetch(bundle).name) != bundle.model_digest:
        raise Refused(f"the model of version {bundle.version} is {found[:16]}…, not the one of its signed evidence")


def _checked(rollout: Rollout, state: State, action: Action) -> Action:
    """A promotion, unless evidence, review or model do not hold any more: then the challenger is taken away."""
    if action.kind != "promote" or state.challenger is None:
        return action
    try:
        bundle = rollout.admitted_by.bundle(rollout.version)
        standing = rollout.admitted_by.standing(rollout.version)
        if standing.verdict != "approved" or bundle.model_digest != state.challenger.digest:
            raise Refused(f"version {rollout.version} may not serve any more: {standing.reason}")
        _model(rollout, bundle)
    except Refused as error:
        return roll_back(state, "refused", error.message)
    return action


def _refused(rollout: Rollout, state: State, reason: str) -> RolloutResult:
    decision = Action("roll_back", "refused", (reason,)).describe(state, rollout.clock.time())
    decision |= {"version": rollout.version, "digest": "", "phase": "verify"}
    rollout.record.add_decision(state, decision)
    result = _finish(rollout, "rolled_back", (f"refused before anything was changed: {reason}",))
    return replace(result, phases=(decision,))


def _begin(rollout: Rollout, state: State, revision: Revision, *, ab_share: float = 0.0) -> State:
    """Take the endpoint: go on with this version's own rollout, or start one in the place of whatever runs."""
    other = state.challenger
    if other == revision and not state.ab_share:
        progress.report(STEP, f"version {rollout.version}: going on from phase {state.phase}")
        return rollout.record.compare_and_set(state, **restart(state, rollout.clock))
    if other is not None and int(other.version) > int(rollout.version) and not owner.is_dead(state):
        raise Superseded(f"version {other.version} is newer and rolls out now")
    name = files.digest_json([rollout.endpoint, revision.version, revision.digest, state.generation])[:16]
    rollout_files.write_params(rollout.settings.home, name, rollout.params)
    return rollout.record.compare_and_set(
        state, challenger=revision, share=0.0, ab_share=ab_share, phase="warm_up", rollout=name, reason="",
        started=rollout.clock.time(),
    )  # fmt: skip


def _drive(rollout: Rollout, state: State, collector: EvidenceCollector, until: Phase = "idle") -> RolloutResult:
    """Look, decide and write it down, again and again, until nothing rolls out or a phase is reached."""
    topic = ""
    promotion: tuple[str, ...] = (state.reason,) if state.phase == "watch" else ()
    while True:
        began = rollout.clock.monotonic()
        # What it does not manage to bring about, it does not observe either.
        with contextlib.suppress(TokkaError):
            rollout.target.apply(state)
        if has_jumped(state, rollout.clock):
            progress.report(STEP, "somebody has set the clock: what was seen before counts no more")
            state = rollout.record.compare_and_set(state, **restart(state, rollout.clock))
            collector.restart()
        action = next_action(state, collector.gather(state), rollout.params.canary, now(state, rollout.clock))
        action = _checked(rollout, state, action)
        rollout_files.write(rollout.settings.home, state, action, rollout.clock.time())
        if action.kind != "wait":
            state, topic = carry_out(rollout.record, state, action), ""
            _report(rollout, state, action)
            if state.phase == "ab" == until:
                return _result(rollout, "held", action.reasons, state.rollout)
            if state.phase == "idle" and action.kind == "roll_back":
                return _finish(rollout, "rolled_back", action.reasons, state.rollout)
            if state.phase == "idle":
                return _finish(rollout, "promoted", (*promotion, *action.reasons), state.rollout)
            promotion = action.reasons if action.kind == "promote" else promotion
            continue
        rollout.record.heartbeat(state)
        if action.topic != topic:
            rollout.record.add_decision(state, action.describe(state, rollout.clock.time()))
            _report(rollout, state, action)
            topic = action.topic
        rest = REST * (rollout.clock.monotonic() - began) if state.phase == "ab" else 0.0
        rollout.clock.sleep(min(LONGEST_POLL_S, max(POLL_S, rest)))


def _superseded(rollout: Rollout, error: Superseded) -> RolloutResult:
    """Someone else drives now. A version that was promoted before that is so still, unless it was taken back."""
    last, champion = error.expected, rollout.record.read(rollout.endpoint).champion
    name = last.rollout if last and last.on_trial and last.on_trial.version == rollout.version else ""
    if last and last.phase == "watch" and champion is not None and champion.version == rollout.version:
        return _result(rollout, "promoted", (last.reason, "the watch was cut short by another change"), name)
    return _result(rollout, "superseded", (error.message,), name)


def _finish(rollout: Rollout, verdict: Verdict, reasons: tuple[str, ...], name: str = "") -> RolloutResult:
    """Tell the registry; it only shows what the record says, so its silence does not undo a verdict."""
    if not settle(rollout.target, rollout.record.read(rollout.endpoint), rollout.clock):
        progress.report(STEP, "the endpoint does not serve what was decided yet; its daemon goes on trying")
    try:
        show_verdict(rollout.version, verdict, reasons, rollout.registry)
        keep_aliases(rollout.record, rollout.endpoint, rollout.registry)
    except TokkaError as error:
        progress.report(STEP, f"the registry will show this later: {error.message}")
    return _result(rollout, verdict, reasons, name)


def _result(rollout: Rollout, verdict: Verdict, reasons: tuple[str, ...], name: str = "") -> RolloutResult:
    phases = rollout.record.decisions(rollout.endpoint, rollout=name, version=rollout.version) if name else []
    return RolloutResult(verdict, reasons, tuple(reversed(phases)))


def _report(rollout: Rollout, state: State, action: Action) -> None:
    where = f"version {rollout.version}, {state.phase} at {state.share:.0%}"
    message = f"{where}: {action.kind}, {'; '.join(action.reasons)}"
    progress.report(STEP, message, fraction=FRACTION.get(state.phase), values=action.values)
