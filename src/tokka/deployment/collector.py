"""The evidence of a rollout: what each phase needs to see, fetched from the target, the request log and the registry.

What cannot be had now (nothing answers, no request came) is left empty, and the phases treat that as no evidence.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokka import files
from tokka.deployment import label_requests, rollout_files
from tokka.deployment.inputs import RECENT_S, Input, LiveInputs, replay_inputs, scale_of
from tokka.deployment.judge.evidence import Pairs, Traffic, number
from tokka.deployment.judge.phases import Evidence, is_applied, is_ready
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed
from tokka.deployment.rollout import ReadLog, Rollout
from tokka.deployment.shadow import Shadow
from tokka.deployment.traffic_columns import LogRecord, TrafficColumns
from tokka.errors import TokkaError
from tokka.registry.entities import part
from tokka.request_log.log import Tail

SMOKE_ROWS = 5
SMOKE_TEXTS = ("Where is my order?", "I want to change my address.", "ok")
# Live traffic that fills a step within this time needs no replayed traffic beside it.
PATIENCE_S = 60.0
# Nor does live traffic that fills it in that time, and has not proven enough yet, before this.
PROOF_PATIENCE_S = 300.0
REPLAYED_AT_ONCE = 500


class EvidenceCollector:
    """Collects `Evidence` for one rollout; TokkaError when the registry does not give the version's held-out rows."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout, self._canary, self._target = rollout, rollout.params.canary, rollout.target
        self._registered = rollout.registry.version(rollout.version).created
        self._replay, self._renamed = _own_evidence(rollout)
        self._cycle = itertools.cycle(self._replay)
        self._usual: Traffic | None = None
        self._before: Traffic | None = None
        self.restart()

    def restart(self) -> None:
        """Begin anew; what a watch took for usual before the promotion stays known."""
        params, slow_ms = self._rollout.params, self._canary.slow_ms
        scale = scale_of(self._replay) if params.task.type == "regression" else None
        classes = {entry.target for entry in self._replay if isinstance(entry.target, str)}
        self._read_log: ReadLog | None = None
        self._inputs = LiveInputs(params, since=self._registered, classes=classes, renamed=self._renamed)
        self._columns = TrafficColumns(
            challenger=self._rollout.version, slow_ms=slow_ms, scale=scale, classes=classes, renamed=self._renamed
        )
        self._shadow = Shadow(self._target.infer, scale, slow_ms, self._renamed)
        self._pairs, self._is_live = Pairs(), False
        self._missing_since: float | None = None
        self._usual = self._before if self._usual is None else self._usual

    def gather(self, state: State) -> Evidence:
        """What can be seen now in the phase of `state`."""
        observed = None
        with contextlib.suppress(TokkaError):
            observed = self._target.observe()
        seen = Evidence(observed, self._lost_s(state, observed))
        if state.phase == "watch":
            before, after = self._watched(state)
            return replace(seen, before=before, after=after)
        if state.challenger is None:
            return seen
        if state.phase == "warm_up":
            ready = is_ready(state.challenger, observed) and is_applied(state, observed)
            return replace(seen, smoke=self._smoke(state.challenger) if ready else ())
        if state.phase == "shadow" and state.champion is not None:
            return replace(seen, pairs=self._ask_more(state, state.champion, state.challenger))
        return replace(seen, traffic=self._read(state) if state.phase == "ab" else self._requests(state, observed))

    def _lost_s(self, state: State, observed: Observed | None) -> float:
        """For how long what is on trial had no ready worker; 0 while nothing can be observed."""
        if observed is None or state.on_trial is None or is_ready(state.on_trial, observed):
            self._missing_since = None
            return 0.0
        now = self._rollout.clock.monotonic()
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
        replay = self._replay if self._canary.replay else []
        try:
            pairs = self._shadow.ask_more(champion, challenger, live, replay)
        except TokkaError:
            return self._pairs
        if pairs.difference.size != self._pairs.difference.size:
            rollout_files.write_answers(self._rollout.settings.home, state, self._shadow.answers)
        self._pairs = replace(pairs, live=self._is_live)
        label_requests.publish(self._rollout.settings.home, state, self._shadow.wanted())
        return self._pairs

    def _read_on(self, state: State) -> Sequence[LogRecord]:
        """What is new in the request log; what belongs to this rollout is put among its columns."""
        open_log = self._rollout.open_log or self._tail
        self._read_log = self._read_log or open_log(state.started - RECENT_S)
        records = self._read_log()
        mine = [record for record in records if number(record["time"]) >= state.started]
        self._columns.take(mine)
        self._is_live |= any(one["kind"] == "prediction" and not one.get("replayed") for one in mine)
        return records

    def _tail(self, since: float) -> ReadLog:
        tail = Tail(self._rollout.settings.home / "requests", since)
        return lambda: tail.poll().records

    def _read(self, state: State) -> Traffic:
        self._read_on(state)
        return self._columns.traffic()

    def _requests(self, state: State, observed: Observed | None) -> Traffic:
        traffic = self._read(state)
        missing = self._missing(state, traffic)
        if missing and self._rollout.traffic is not None and self._replay and is_applied(state, observed):
            # Not all at once: the owner of a rollout shows a sign of life in between.
            rows = itertools.islice(self._cycle, min(missing, REPLAYED_AT_ONCE))
            self._rollout.traffic([{**entry.as_row(), "target": entry.target} for entry in rows])
            traffic = self._read(state)
        return traffic

    def _missing(self, state: State, traffic: Traffic) -> int:
        """How many replayed requests to send now: none while live traffic can fill the step by itself."""
        # A few users' many requests are few drawings of the split.
        drawn = traffic.split().drawn().answered()
        here = drawn.where(abs(drawn.share - state.share) < 1e-6)
        elapsed = self._rollout.clock.time() - state.updated
        if not self._canary.replay or elapsed < self._canary.minimum_wait_s:
            return 0
        wanted, live = self._canary.step_requests, here.size - float(here.replayed.sum())
        full = here.size >= wanted
        if live * PATIENCE_S >= wanted * max(elapsed, 1.0) and not (full and elapsed > PROOF_PATIENCE_S):
            return 0
        # Enough requests and still here: too few went to the challenger, or a promotion is not proven yet.
        return wanted if full else wanted - here.size

    def _watched(self, state: State) -> tuple[Traffic, Traffic]:
        self._read_on(state)
        # Not when the state was last written: who goes on after a kill writes it anew.
        promoted = state.promoted or state.updated
        self._before = self._columns.traffic(until=promoted) if self._usual is None else self._usual
        return self._before, self._columns.traffic(since=promoted)


def _own_evidence(rollout: Rollout) -> tuple[list[Input], dict[str, str]]:
    """The test rows of the version's own evaluation, and what became of classes in its data (`data.labels`).

    None when it has no such evidence.
    """
    home = rollout.settings.home
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".replay-") as folder:
        rollout.registry.download_evidence(rollout.version, Path(folder) / "evidence")
        path, lineage = (Path(folder) / "evidence" / name for name in ("replay.parquet", "provenance.json"))
        became = part(part(files.read_json(lineage), "params"), "data") if lineage.is_file() else {}
        rows = replay_inputs(path, seed=int(rollout.version)) if path.is_file() else []
        return rows, {str(old): str(new or "") for old, new in part(became, "labels").items()}
