"""The eyes of a rollout: what each phase needs to see, fetched from the target, the request log and the registry.

Nothing here decides. What cannot be had now (nothing answers, no request came) is left empty, and the phases treat
that as no evidence.
"""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokka.deployment import label_requests, rollout_files
from tokka.deployment.inputs import RECENT_S, Input, LiveInputs, replay_inputs, scale_of
from tokka.deployment.judge.evidence import Pairs, Traffic, first_of_each
from tokka.deployment.judge.phases import Evidence, is_applied, is_ready
from tokka.deployment.record.record import Clock
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed, Target
from tokka.deployment.shadow import Shadow
from tokka.deployment.traffic_columns import TrafficColumns
from tokka.errors import TokkaError
from tokka.params import Params

ReadLog = Callable[[float], list[dict[str, Any]]]
SendTraffic = Callable[[Sequence[dict[str, Any]]], Any]

SMOKE_ROWS = 5
SMOKE_TEXTS = ("Where is my order?", "I want to change my address.", "ok")
# Live traffic that fills a step within this time needs no replayed traffic beside it.
PATIENCE_S = 60.0
# Nor does live traffic that fills it in that time, and has not proven enough yet, before this.
PROOF_PATIENCE_S = 300.0
REPLAYED_AT_ONCE = 500


class Gatherer:
    """Collects `Evidence` for one rollout, phase by phase.

    Args:
        registry: has `download_evidence` and `version`; see registry/mlflow_client.py.
        traffic: sends labelled rows through the gateway, and their labels as feedback; None when there is no way to.
        read_log: (seconds since 1970) to the records of the request log from then on that it has not given before.
    """

    def __init__(
        self, *, version: str, registry: Any, target: Target, params: Params, home: Path,
        traffic: SendTraffic | None, read_log: ReadLog, clock: Clock,
    ) -> None:  # fmt: skip
        self._target, self._params, self._clock, self._home = target, params, clock, home
        self._traffic, self._read_log = traffic, read_log
        self._registered = float(getattr(registry.version(version), "created", 0.0))
        self._replay = _held_out_rows(registry, version, home)
        scale = scale_of(self._replay) if params.task.type == "regression" else None
        classes = {entry.target for entry in self._replay if isinstance(entry.target, str)}
        self._inputs = LiveInputs(params, since=self._registered, classes=classes)
        self._columns = TrafficColumns(
            challenger=version, slow_ms=params.canary.slow_ms, scale=scale, classes=classes
        )  # fmt: skip
        self._is_live = False
        self._shadow = Shadow(target.infer, scale, params.canary.slow_ms)
        self._pairs = Pairs()
        self._missing_since: float | None = None
        self._cycle = itertools.cycle(self._replay)

    def gather(self, state: State) -> Evidence:
        """What can be seen now in the phase of `state`."""
        observed = self._observe()
        lost_s = self._lost_s(state, observed)
        if state.phase == "warm_up" and state.challenger is not None:
            seen = is_ready(state.challenger, observed) and is_applied(state, observed)
            return Evidence(observed, lost_s, smoke=self._smoke(state.challenger) if seen else ())
        if state.phase == "shadow" and state.challenger is not None and state.champion is not None:
            return Evidence(observed, lost_s, pairs=self._ask_more(state, state.champion, state.challenger))
        if state.phase == "step" and state.challenger is not None:
            return Evidence(observed, lost_s, traffic=self._requests(state, observed))
        if state.phase == "watch" and state.champion is not None:
            before, after = self._watched(state)
            return Evidence(observed, lost_s, before=before, after=after)
        return Evidence(observed, lost_s)

    def _observe(self) -> Observed | None:
        try:
            return self._target.observe()
        except TokkaError:
            return None

    def _lost_s(self, state: State, observed: Observed | None) -> float:
        """For how long what is on trial had no ready worker; while nothing can be observed, nobody knows."""
        on_trial = state.challenger or state.champion
        if observed is None or on_trial is None or is_ready(on_trial, observed):
            self._missing_since = None
            return 0.0
        now = self._clock.monotonic()
        self._missing_since = now if self._missing_since is None else self._missing_since
        return now - self._missing_since

    def _smoke(self, challenger: Revision) -> tuple[Answer, ...]:
        rows = [entry.as_row() for entry in self._replay[:SMOKE_ROWS]] or [{"text": text} for text in SMOKE_TEXTS]
        try:
            return tuple(self._target.infer(challenger.digest, rows))
        except TokkaError as error:
            return (Answer(error=str(error)),)

    def _ask_more(self, state: State, champion: Revision, challenger: Revision) -> Pairs:
        live = self._inputs.take(self._read_on(state))
        replay = self._replay if self._params.canary.replay else []
        try:
            pairs = self._shadow.ask_more(champion, challenger, live, replay)
        except TokkaError:
            return self._pairs
        if pairs.difference.size != self._pairs.difference.size:
            rollout_files.write_answers(self._home, state, self._shadow.answers)
        self._pairs = replace(pairs, live=self._is_live)
        label_requests.publish(self._home, state, self._shadow.wanted())
        return self._pairs

    def _read_on(self, state: State) -> list[dict[str, Any]]:
        """What is new in the request log; what belongs to this rollout is put among its columns."""
        records = self._read_log(state.started - RECENT_S)
        mine = [record for record in records if record["time"] >= state.started]
        self._columns.take(mine)
        self._is_live |= any(one["kind"] == "prediction" and not one.get("replayed") for one in mine)
        return records

    def _requests(self, state: State, observed: Observed | None) -> Traffic:
        traffic = self._read(state)
        missing = self._missing(state, traffic)
        if missing and self._traffic is not None and self._replay and is_applied(state, observed):
            # Not all at once: whoever drives a rollout shows a sign of life in between.
            rows = itertools.islice(self._cycle, min(missing, REPLAYED_AT_ONCE))
            self._traffic([_as_labelled(entry) for entry in rows])
            traffic = self._read(state)
        return traffic

    def _missing(self, state: State, traffic: Traffic) -> int:
        """How many replayed requests to send now: none while live traffic can fill the step by itself."""
        canary = self._params.canary
        here = traffic.where(abs(traffic.share - state.share) < 1e-6)
        # A few users' many requests are few drawings of the split.
        here = here.where(first_of_each(here.key))
        elapsed = self._clock.time() - state.updated
        if not canary.replay or elapsed < canary.minimum_wait_s:
            return 0
        live, full = here.size - float(here.replayed.sum()), here.size >= canary.step_requests
        if live * PATIENCE_S >= canary.step_requests * max(elapsed, 1.0) and not (full and elapsed > PROOF_PATIENCE_S):
            return 0
        # Enough requests and still here: too few went to the challenger, or a promotion is not proven yet.
        return canary.step_requests - here.size if here.size < canary.step_requests else canary.step_requests

    def _watched(self, state: State) -> tuple[Traffic, Traffic]:
        self._read_on(state)
        # Not when the state was last written: who goes on after a kill writes it anew.
        promoted = state.promoted or state.updated
        return self._columns.traffic(until=promoted), self._columns.traffic(since=promoted)

    def _read(self, state: State) -> Traffic:
        self._read_on(state)
        return self._columns.traffic()


class RequestLog:
    """The request log, read on from where it was read last; it opens at the first time that is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tail: Any = None

    def __call__(self, since: float) -> list[dict[str, Any]]:
        """The records from `since` (seconds since 1970) on that are new."""
        from tokka.request_log.log import Tail

        self._tail = self._tail or Tail(self._folder, since)
        records: list[dict[str, Any]] = self._tail.poll().records
        return records


def _held_out_rows(registry: Any, version: str, home: Path) -> list[Input]:
    """The test rows of the version's own evaluation; none when it has no such evidence."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".replay-") as folder:
        registry.download_evidence(version, Path(folder) / "evidence")
        path = Path(folder) / "evidence" / "replay.parquet"
        return replay_inputs(path, seed=int(version)) if path.is_file() else []


def _as_labelled(entry: Input) -> dict[str, Any]:
    return {**entry.as_row(), "target": entry.target}
