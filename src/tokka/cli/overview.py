"""`tokka status`: what the record wants, what serves, and how the last minute of traffic fared."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokka.cli.tables import facts, number, table
from tokka.deployment import rollout_files
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Decision, State
from tokka.errors import TokkaError
from tokka.notifications.outbox import Outbox
from tokka.params import Params
from tokka.request_log.framing import LogRecord
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.stack import status
from tokka.stack.state_file import StackInfo

WINDOW_SECONDS = 60.0
DECISIONS = 5


class Traffic(TypedDict):
    """One version's predictions within WINDOW_SECONDS; `replayed` is a share."""

    version: str
    predictions: int
    per_second: float
    p50_ms: float
    p99_ms: float
    replayed: float


class Judge(TypedDict):
    """The last look at the running rollout; e_values: metric to `e_value` and `threshold`."""

    version: str
    phase: str
    time: float
    reasons: list[str]
    e_values: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Overview:
    """What `tokka status` shows; `stack` is None when none runs, `judge` when nothing rolls out.

    `notifications` are sentences about those that were not taken.
    """

    record: State
    stack: StackInfo | None
    traffic: list[Traffic]
    judge: Judge | None
    decisions: list[Decision]
    notifications: list[str]

    def as_json(self) -> dict[str, object]:
        """Plain data for `--json`."""
        stack = self.stack.model_dump(exclude={"processes"}) if self.stack else None
        return {**vars(self), "record": self.record.model_dump(), "stack": stack}


def overview(settings: Settings, params: Params) -> Overview:
    """Record, stack, traffic of the last minute, the judge's e-values and the last decisions."""
    from tokka.request_log.log import read

    record, endpoint = Record(settings.record_url, later=True), params.registry.model
    info, now = status(settings), time.time()
    try:
        state = record.read(endpoint)
        if info is not None and info.name != endpoint and state.champion is None and state.challenger is None:
            # The stack was started with another name; of this one nothing is known.
            state = record.read(endpoint := info.name)
        decisions, told = record.decisions(endpoint, limit=DECISIONS), Outbox(settings.record_url).problems()
    except TokkaError as error:
        if info is None:
            raise
        # What serves goes on without the record, and is shown without it.
        state, decisions, told = state_file.as_state(info), [], [error.message]
    return Overview(
        record=state,
        stack=info,
        traffic=traffic(read(settings.home / "requests", since=now - WINDOW_SECONDS)),
        judge=judge(rollout_files.read(settings.home), state),
        decisions=decisions,
        notifications=told,
    )


def judge(found: rollout_files.Look | None, state: State) -> Judge | None:
    """How the judge of the running rollout stands; None when nothing rolls out or it has not looked yet."""
    if found is None or state.phase == "idle" or found["rollout"] != state.rollout:
        return None
    pairs = rollout_files.e_values(found["values"])
    return {
        "version": found["version"],
        "phase": found["phase"],
        "time": found["time"],
        "reasons": found["reasons"],
        "e_values": {name: {"e_value": value, "threshold": limit} for name, (value, limit) in pairs.items()},
    }


def traffic(records: Iterable[LogRecord]) -> list[Traffic]:
    """Predictions by version, in the order of the versions' names."""
    found: dict[str, list[LogRecord]] = {}
    for record in records:
        if record.get("kind") == "prediction":
            found.setdefault(str(record["version"]), []).append(record)
    return [_summed(version, predictions) for version, predictions in sorted(found.items())]


def _summed(version: str, predictions: Sequence[LogRecord]) -> Traffic:
    import numpy as np

    p50, p99 = np.percentile([row["latency_ms"] for row in predictions], [50, 99]).tolist()
    count, replayed = len(predictions), sum(bool(row.get("replayed")) for row in predictions)
    return Traffic(
        version=version, predictions=count, per_second=count / WINDOW_SECONDS, p50_ms=p50, p99_ms=p99,
        replayed=replayed / count,
    )  # fmt: skip


def render(found: Overview) -> RenderableType:
    """The overview for a terminal."""
    said = (*(found.stack.problems if found.stack else ()), *found.notifications)
    problems = [Text(problem, style="red") for problem in said]
    parts: list[RenderableType] = [_roles(found.record, found.stack), *problems]
    if found.traffic:
        parts.append(_traffic(found.traffic))
    if found.judge:
        parts.append(_judge(found.judge))
    if found.decisions:
        parts.append(_decisions(found.decisions))
    return Group(*parts)


def _roles(state: State, stack: StackInfo | None) -> Table:
    shown = facts()
    for role in ("champion", "challenger", "previous"):
        revision = getattr(state, role)
        shown.add_row(role, f"version {revision.version}  {revision.digest[:12]}" if revision else "none")
    shown.add_row("share", f"{state.share:.2%} wanted" + (f", {stack.share:.2%} observed" if stack else ""))
    shown.add_row("phase", f"{state.phase}, generation {state.generation}")
    if stack is None:
        shown.add_row("stack", "not running; `tokka up` starts it")
        return shown
    ready = sum(worker.ready for worker in stack.workers)
    shown.add_row("endpoint", stack.endpoint + (", with authentication" if stack.authentication else ""))
    shown.add_row("gRPC", stack.grpc_endpoint or "none")
    shown.add_row("workers", f"{ready} of {len(stack.workers)} ready, {stack.restarts} restarted")
    if any(stack.unlogged.values()):
        shown.add_row("not logged", ", ".join(f"{count} {kind}" for kind, count in stack.unlogged.items()))
    shown.add_row("MLflow", stack.mlflow or "starting")
    shown.add_row("admin", stack.admin or stack.admin_problem or "starting")
    return shown


def _traffic(rows: Iterable[Traffic]) -> Table:
    columns = map(number, ("version", "predictions", "per second", "p50 ms", "p99 ms", "replayed"))
    shown = table(*columns, title=f"Last {WINDOW_SECONDS:.0f} s")
    for row in rows:
        rates = (f"{row['per_second']:.1f}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", f"{row['replayed']:.0%}")
        shown.add_row(row["version"], str(row["predictions"]), *rates)
    return shown


def _judge(found: Judge) -> RenderableType:
    """Evidence grows by factors, so the way to a threshold is told on the scale of logarithms."""
    said = Text(f"Judge of version {found['version']}, {found['phase']}: {'; '.join(found['reasons'])}", style="italic")
    shown = table("metric", *map(number, ("e-value", "threshold", "on its way")))
    for name, one in found["e_values"].items():
        way = max(0.0, min(1.0, math.log(max(1.0, one["e_value"])) / math.log(one["threshold"])))
        shown.add_row(name, f"{one['e_value']:.3g}", f"{one['threshold']:g}", f"{way:.0%}")
    return Group(said, shown)


def _decisions(decisions: Iterable[Decision]) -> Table:
    shown = table("when", "version", "phase", "share", "decision", "why", title="Last decisions")
    for decision in decisions:
        when = time.strftime("%H:%M:%S", time.localtime(decision["time"]))
        why, share = "; ".join(decision["reasons"]), f"{decision['share']:.0%}"
        shown.add_row(when, decision["version"], decision["phase"], share, decision["action"], why)
    return shown
