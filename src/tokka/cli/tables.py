"""The tables that commands end with."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SHOWN_METRICS = ("accuracy", "f1_macro", "f1_weighted", "roc_auc", "mae", "rmse", "r2", "pearson")

SHOWN_REASONS = 4


def run_summary(final: Mapping[str, Any], seconds: float) -> RenderableType:
    """Steps and seconds, metrics side by side, verdicts with reasons, and where to look."""
    parts: list[RenderableType] = [""]
    if final["cached"]:
        parts.append(Text("Nothing changed: this key has been run before, and no work was done again.", style="bold"))
    if final["steps"]:
        parts.append(_steps(final["steps"]))
    parts += [_metrics(final["metrics"]), _facts(final, seconds)]
    return Group(*parts)


def _steps(steps: list[Mapping[str, Any]]) -> Table:
    table = Table(title="Steps", title_justify="left", box=None, pad_edge=False)
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("status")
    for step in steps:
        table.add_row(step["name"], f"{step['seconds']:.1f}", step["status"])
    return table


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title="Metrics on the same held-out rows", title_justify="left", box=None, pad_edge=False)
    table.add_column("metric")
    subjects = [name for name, values in metrics.items() if values]
    for name in subjects:
        table.add_column(name, justify="right")
    for metric in SHOWN_METRICS:
        if any(metric in metrics[name] for name in subjects):
            cells = [f"{metrics[name][metric]:.4f}" if metric in metrics[name] else "-" for name in subjects]
            table.add_row(metric, *cells)
    return table


def _facts(final: Mapping[str, Any], seconds: float) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name in ("drift", "gate", "canary"):
        decision = final.get(name)
        if decision:
            table.add_row(name, _verdict(decision))
    if final.get("review"):
        table.add_row("review", str(final["review"]))
    for name in ("version", "key", "data_digest", "model_digest", "endpoint", "report", "mlflow"):
        if final.get(name):
            table.add_row(name.replace("_", " "), str(final[name]))
    if final.get("answer"):
        answer = final["answer"]
        said = answer.get("label") or answer.get("value")
        table.add_row("asked", f"{answer['text']!r} → {said!r} by version {answer['model_version']}")
    table.add_row("wall time", f"{seconds:.1f} s")
    return table


def _verdict(decision: Mapping[str, Any]) -> str:
    reasons = list(decision["reasons"])
    more = f"; and {len(reasons) - SHOWN_REASONS} more in the report" if len(reasons) > SHOWN_REASONS + 1 else ""
    return f"{decision['verdict']}: " + "; ".join(reasons[:SHOWN_REASONS] if more else reasons) + more


def verdict_line(name: str, decision: Mapping[str, Any] | None) -> Text:
    """One decision as a line."""
    return Text(f"{name}: {_verdict(decision) if decision else 'not reached'}")
