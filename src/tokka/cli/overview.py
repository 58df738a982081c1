"""`tokka status`: what the record wants, what serves, and how the last minute of traffic fared.

found = overview(settings, params); print(render(found))
"""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tokka.deployment import rollout_files
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.params import Params
from tokka.settings import Settings
from tokka.stack.stack import status

WINDOW_SECONDS = 60.0
DECISIONS = 5


def overview(settings: Settings, params: Params) -> dict[str, Any]:
    """Record, stack, traffic of the last minute, the judge's e-values and the last decisions, as plain data."""
    from tokka.request_log.log import read

    record, endpoint = Record(settings.record_url), params.registry.model
    info, now = status(settings), time.time()
    state = record.read(endpoint)
    return {
        "record": state.model_dump(),
        "stack": info.model_dump(exclude={"processes"}) if info else None,
        "traffic": traffic(read(settings.home / "requests", since=now - WINDOW_SECONDS)),
        "judge": judge(rollout_files.read(settings.home), state),
        "decisions": record.decisions(endpoint, limit=DECISIONS),
    }


def judge(found: rollout_files.Look | None, state: State) -> dict[str, Any] | None:
    """How the judge of the running rollout stands; None when nothing rolls out or it has not looked yet."""
    if found is None or state.phase == "idle" or found["rollout"] != state.rollout:
        return None
    pairs = rollout_files.e_values(found["values"])
    e_values = {name: {"e_value": value, "threshold": limit} for name, (value, limit) in pairs.items()}
    facts = {"version": found["version"], "phase": found["phase"], "time": found["time"]}
    return {**facts, "reasons": found["reasons"], "e_values": e_values}


def traffic(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Predictions by version: count, requests per second, p50 and p99 in milliseconds, share replayed."""
    import numpy as np

    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("kind") == "prediction":
            found.setdefault(str(record["version"]), []).append(record)
    rows = []
    for version, predictions in sorted(found.items()):
        p50, p99 = np.percentile([row["latency_ms"] for row in predictions], [50, 99])
        rows.append(
            {
                "version": version,
                "predictions": len(predictions),
                "per_second": len(predictions) / WINDOW_SECONDS,
                "p50_ms": float(p50),
                "p99_ms": float(p99),
                "replayed": sum(bool(row.get("replayed")) for row in predictions) / len(predictions),
            }
        )
    return rows


def render(found: Mapping[str, Any]) -> RenderableType:
    """The overview for a terminal."""
    parts: list[RenderableType] = [_roles(found["record"], found["stack"])]
    parts += [Text(problem, style="red") for problem in (found["stack"] or {}).get("problems", ())]
    if found["traffic"]:
        parts.append(_traffic(found["traffic"]))
    if found["judge"]:
        parts.append(_judge(found["judge"]))
    if found["decisions"]:
        parts.append(_decisions(found["decisions"]))
    return Group(*parts)


def _roles(state: Mapping[str, Any], stack: Mapping[str, Any] | None) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for role in ("champion", "challenger", "previous"):
        revision = state[role]
        table.add_row(role, f"version {revision['version']}  {revision['digest'][:12]}" if revision else "none")
    table.add_row("share", f"{state['share']:.2%} wanted" + (f", {stack['share']:.2%} observed" if stack else ""))
    table.add_row("phase", f"{state['phase']}, generation {state['generation']}")
    if stack is None:
        table.add_row("stack", "not running; `tokka up` starts it")
    else:
        ready = sum(worker["state"] == "ready" for worker in stack["workers"])
        table.add_row("endpoint", stack["endpoint"] + (", with authentication" if stack.get("authentication") else ""))
        table.add_row("gRPC", stack.get("grpc_endpoint") or "none")
        table.add_row("workers", f"{ready} of {len(stack['workers'])} ready, {stack['restarts']} restarted")
        table.add_row("MLflow", stack["mlflow"] or "starting")
        table.add_row("admin", stack["admin"] or stack["admin_problem"] or "starting")
    return table


def _traffic(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(title=f"Last {WINDOW_SECONDS:.0f} s", title_justify="left", box=None, pad_edge=False)
    for name in ("version", "predictions", "per second", "p50 ms", "p99 ms", "replayed"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (f"{row['per_second']:.1f}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", f"{row['replayed']:.0%}")
        table.add_row(row["version"], str(row["predictions"]), *numbers)
    return table


def _judge(found: Mapping[str, Any]) -> RenderableType:
    """Evidence grows by factors, so the way to a threshold is told on the scale of logarithms."""
    said = Text(f"Judge of version {found['version']}, {found['phase']}: {'; '.join(found['reasons'])}", style="italic")
    table = Table(box=None, pad_edge=False)
    for name in ("metric", "e-value", "threshold", "on its way"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, one in found["e_values"].items():
        way = max(0.0, min(1.0, math.log(max(1.0, one["e_value"])) / math.log(one["threshold"])))
        table.add_row(name, f"{one['e_value']:.3g}", f"{one['threshold']:g}", f"{way:.0%}")
    return Group(said, table)


def _decisions(decisions: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(title="Last decisions", title_justify="left", box=None, pad_edge=False)
    for name in ("when", "version", "phase", "share", "decision", "why"):
        table.add_column(name, overflow="fold")
    for decision in decisions:
        when = time.strftime("%H:%M:%S", time.localtime(decision["time"]))
        why = "; ".join(decision["reasons"])
        share = f"{decision['share']:.0%}"
        table.add_row(when, decision["version"], decision["phase"], share, decision["action"], escape(why))
    return table
