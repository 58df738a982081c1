"""An A/B test on request: a version beside the champion at a fixed share until a person names the winner.

    start(version, 0.3, fetch=…, record=record, target=target, params=params)   # verify, warm up, split
    confidence_sequences.measure(read_traffic(state, params, settings), alpha)         # confidence sequences per metric
    stop(winner, record, params, settings)                                      # one compare-and-set

    python -m tokka.deployment.ab             # what the daemon keeps running while a test runs: beat, look, fail safe

It is the machinery of a rollout: the deployment record, its compare-and-set, the sticky split, the workers. A
challenger that is proven to fail more often, or that nobody answers for, is taken away without asking.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokka import files
from tokka.deployment import rollout_files
from tokka.deployment.collector import SMOKE_TEXTS
from tokka.deployment.judge import confidence_sequences
from tokka.deployment.judge.decisions import describe
from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.phases import Action, Evidence, is_applied, is_ready, next_action, roll_back
from tokka.deployment.record.clock import now
from tokka.deployment.record.record import Clock, Record, Superseded
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed, Target
from tokka.deployment.traffic_columns import TrafficLog
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import Params
from tokka.settings import Settings
from tokka.stack import stack

POLL_S = 0.5
# A look goes over the whole test: a long one is looked at less often, for a twentieth of a core at most, but
# often enough that nobody takes the watch for dead (reconcile.ABANDONED_S).
REST, LONGEST_POLL_S = 20.0, 20.0


def start(
    version: str, share: float, *, fetch: Callable[[str], Path], record: Record, target: Target, params: Params,
    snapshot: str = "", clock: Clock = time,
) -> State:  # fmt: skip
    """Verify a version, warm it up and give it its share; returns once the record says so.

    Args:
        share: of live traffic, in (0, 1).
        fetch: version to its verified model folder; refuses what is not approved or not what was signed.
        snapshot: of the labelled feedback that the version was trained with; the winner passes it on.

    Raises:
        UsageError: the share is none, or the version is the champion.
        Refused: something rolls out already, there is no champion, or the version is not fit to serve.
        Superseded: another rollout was faster.
    """
    state = record.read(params.registry.model)
    _check(version, share, state)
    revision = Revision(version=version, digest=fetch(version).name, snapshot=snapshot)
    name = files.digest_json([state.endpoint, "ab", version, revision.digest, state.generation])[:16]
    state = record.compare_and_set(
        state, challenger=revision, share=0.0, phase="warm_up", rollout=name, reason="", started=clock.time()
    )
    while True:
        action = next_action(state, _warm_evidence(state, revision, target), params.canary, now(state, clock))
        if action.kind == "roll_back":
            record.compare_and_set(state, decision=describe(action, state, version, clock.time()), **action.changes)
            raise Refused(f"version {version} does not serve: {'; '.join(action.reasons)}", "see tokka status")
        if action.kind == "go_on":
            begun = Action("go_on", "ab", (f"an A/B test at {share:.0%} was asked for", *action.reasons))
            decision = describe(begun, state, version, clock.time())
            return record.compare_and_set(state, decision=decision, phase="ab", share=round(share, 4))
        record.beat(state)
        clock.sleep(POLL_S)


def stop(winner: str, record: Record, params: Params, settings: Settings) -> State:
    """End the test: the winner is the champion, the other one is not served any more (a new champion's predecessor
    stays warm).

    Raises:
        Refused: no A/B test runs.
        UsageError: the winner is neither of the two.
        Superseded: it ended at this moment.
    """
    state = record.read(params.registry.model)
    champion, challenger = _both(state)
    if winner not in (champion.version, challenger.version):
        hint = f"versions {champion.version} and {challenger.version} are compared"
        raise UsageError(f"version {winner!r} is not in this test", hint)
    won = winner == challenger.version
    reason = f"the A/B test was ended by hand, version {winner} won"
    changes: dict[str, Any] = {"challenger": None, "share": 0.0, "phase": "idle", "reason": reason}
    changes |= {"champion": challenger, "previous": champion} if won else {}
    found = confidence_sequences.measure(read_traffic(state, params, settings), params.canary.alpha)
    action = Action("promote" if won else "finish", "ab", (reason, *words(found)), changes)
    return record.compare_and_set(
        state, decision=describe(action, state, challenger.version, record.clock.time()), **changes
    )


def words(found: dict[str, confidence_sequences.Difference]) -> tuple[str, ...]:
    """Each metric as a sentence."""
    return tuple(
        f"{name}: {one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}] over {one.requests} requests, {one.verdict}"
        for name, one in found.items()
        if one.difference is not None
    )


def open_log(state: State, params: Params, settings: Settings) -> TrafficLog:
    """The requests since the test began.

    Raises:
        Refused: no A/B test runs.
    """
    _, challenger = _both(state)
    folder, slow_ms = settings.home / "requests", params.canary.slow_ms
    return TrafficLog(folder, since=state.started, challenger=challenger.version, slow_ms=slow_ms)


def read_traffic(state: State, params: Params, settings: Settings, log: TrafficLog | None = None) -> Traffic:
    """The requests since the test began. A value is not right or wrong: regression has no accuracy here.

    Raises:
        Refused: no A/B test runs.
    """
    traffic = (log or open_log(state, params, settings)).poll()
    if params.task.type == "regression":
        return replace(traffic, wrong=traffic.wrong * math.nan)
    return traffic


def look(state: State, traffic: Traffic, observed: Observed | None, lost_s: float, params: Params) -> Action:
    """What becomes of the test now: `roll_back` when its challenger fails or is lost, else `wait`. Pure."""
    _, challenger = _both(state)
    canary = params.canary
    if lost_s > canary.lost_s:
        return roll_back(state, "lost", f"no worker of version {challenger.version} was ready for {canary.lost_s:g} s")
    value, reason = confidence_sequences.failure(traffic, canary.alpha)
    values = {"errors": round(value, 6), "errors_limit": 1.0 / canary.alpha, "requests": float(traffic.size)}
    if reason is not None:
        return roll_back(state, "live", reason, values=values)
    applied = "" if is_applied(state, observed) else "; the gateway does not split so yet"
    return Action("wait", "ab", (f"an A/B test at {state.share:.0%}, {traffic.size} requests{applied}",), {}, values)


def watch(record: Record, target: Target, params: Params, settings: Settings, clock: Clock = time) -> None:
    """Drive the test until it ends: a sign of life, a look, and the end when it must be."""
    log, watched, missing_since = None, "", None
    while (state := record.read(params.registry.model)).phase == "ab":
        _, challenger = _both(state)
        if log is None or watched != state.rollout:
            log, watched = open_log(state, params, settings), state.rollout
        began, observed = time.monotonic(), _observe(target)
        missing = observed is not None and not is_ready(challenger, observed)
        missing_since = (missing_since or clock.monotonic()) if missing else None
        lost_s = clock.monotonic() - missing_since if missing_since else 0.0
        action = look(state, read_traffic(state, params, settings, log), observed, lost_s, params)
        rollout_files.write(settings.home, state, challenger.version, action, clock.time())
        try:
            if action.kind == "roll_back":
                decision = describe(action, state, challenger.version, clock.time())
                record.compare_and_set(state, decision=decision, **action.changes)
            else:
                record.beat(state)
        except Superseded:
            continue
        clock.sleep(min(LONGEST_POLL_S, max(POLL_S, REST * (time.monotonic() - began))))


def _check(version: str, share: float, state: State) -> None:
    if not 0.0001 <= share <= 0.9999:
        raise UsageError(f"--share {share:g} is no share of traffic", "for example: --share 0.3")
    if state.champion is None:
        raise Refused(f"{state.endpoint} has no champion to compare with", "`tokka run` makes a first version")
    if state.champion.version == version:
        raise UsageError(f"version {version} is the champion: there is nothing to compare", "see tokka review list")
    if state.phase != "idle":
        on_trial = state.challenger or state.champion
        hint = "wait for it, or `tokka rollback`; an A/B test ends with `tokka ab stop --winner VERSION`"
        raise Refused(f"version {on_trial.version} is on trial now, in phase {state.phase}", hint)


def _both(state: State) -> tuple[Revision, Revision]:
    if state.phase != "ab" or state.champion is None or state.challenger is None:
        raise Refused(f"no A/B test runs on {state.endpoint}", "`tokka ab start VERSION --share 0.3` starts one")
    return state.champion, state.challenger


def _warm_evidence(state: State, revision: Revision, target: Target) -> Evidence:
    observed = _observe(target)
    if not (is_ready(revision, observed) and is_applied(state, observed)):
        return Evidence(observed)
    try:
        return Evidence(observed, smoke=tuple(target.infer(revision.digest, [{"text": text} for text in SMOKE_TEXTS])))
    except TokkaError as error:
        return Evidence(observed, smoke=(Answer(error=str(error)),))


def _observe(target: Target) -> Observed | None:
    try:
        return target.observe()
    except TokkaError:
        return None


def main() -> int:
    """Watch the test of this home's endpoint; the exit code is 0 once none runs."""
    from tokka.stack.local_target import LocalTarget

    settings = Settings.from_environment()
    try:
        params = stack.read_params(settings)
        watch(Record(settings.record_url), LocalTarget(settings, params), params, settings)
    except TokkaError as error:
        return error.report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
