"""An A/B test on request: a version beside the champion at a fixed share until a person names the winner.

It is a rollout whose warm-up leads to the phase `ab`; what it knows is in judge/confidence_sequences.py. A challenger
that is proven to fail more often, or that has no worker, is taken away without asking.
"""

import math
from dataclasses import replace

from tokka.deployment.judge import confidence_sequences
from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.phases import Action
from tokka.deployment.loop import compare
from tokka.deployment.reconcile import carry_out, settle
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Changes, Revision, State
from tokka.deployment.rollout import Rollout
from tokka.deployment.traffic_columns import TrafficColumns
from tokka.errors import Refused, UsageError
from tokka.params import Params
from tokka.request_log import log
from tokka.settings import Settings


def start(rollout: Rollout, share: float) -> State:
    """Verify a version, warm it up and give it its share of live traffic, in (0, 1); returns once that is in force.

    Raises:
        UsageError: the share is none, or the version is the champion.
        Refused: something rolls out already, there is no champion, or the version is not fit to serve.
        Superseded: another rollout was faster.
    """
    before = rollout.record.read(rollout.endpoint)
    _check(rollout.version, share, before)
    result = compare(rollout, before, round(share, 4))
    if result.verdict == "rolled_back":
        raise Refused(f"version {rollout.version} does not serve: {'; '.join(result.reasons)}", "see tokka status")
    state = rollout.record.read(rollout.endpoint)
    settle(rollout.target, state, rollout.clock)
    return state


def stop(winner: str, record: Record, params: Params, settings: Settings) -> State:
    """End the test: the winner is the champion; of the other one only a new champion's predecessor stays warm.

    Refused when no A/B test runs, UsageError when the winner is neither of the two, Superseded when it ended just now.
    """
    state = record.read(params.registry.model)
    champion, challenger = _both(state)
    if winner not in (champion.version, challenger.version):
        hint = f"versions {champion.version} and {challenger.version} are compared"
        raise UsageError(f"version {winner!r} is not in this test", hint)
    won = winner == challenger.version
    reason = f"the A/B test was ended by hand, version {winner} won"
    changes: Changes = {"challenger": None, "share": 0.0, "phase": "idle", "reason": reason}
    if won:
        changes |= {"champion": challenger, "previous": champion}
    found = confidence_sequences.measure(read_traffic(state, params, settings), params.canary.alpha)
    return carry_out(record, state, Action("promote" if won else "finish", "ab", (reason, *_words(found)), changes))


def read_traffic(state: State, params: Params, settings: Settings) -> Traffic:
    """The requests since the test began; Refused when none runs. A value is not right or wrong: `wrong` is NaN then."""
    _, challenger = _both(state)
    slow_ms, renamed = params.canary.slow_ms, params.data.labels
    columns = TrafficColumns(challenger=challenger.version, slow_ms=slow_ms, renamed=renamed)
    columns.take(log.read(settings.home / "requests", since=state.started))
    traffic = columns.traffic()
    return replace(traffic, wrong=traffic.wrong * math.nan) if params.task.type == "regression" else traffic


def _words(found: dict[str, confidence_sequences.Difference]) -> list[str]:
    return [
        f"{name}: {one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}] over {one.requests} requests, {one.verdict}"
        for name, one in found.items()
        if one.difference is not None
    ]


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
