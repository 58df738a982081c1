"""The tables that commands end with."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from tokka.data.preparation.dropped import in_words
from tokka.files import Tree

SHOWN_METRICS = ("accuracy", "f1_macro", "f1_weighted", "roc_auc", "mae", "rmse", "r2", "pearson")
SHOWN_REASONS = 4


class _Plain(Table):
    """A table whose cells are shown as they are: what stands in square brackets is no style."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def table(*columns: str | Column, title: str | None = None, header: bool = True) -> Table:
    """A table without lines; text that is too wide is folded."""
    folded = [Column(one, overflow="fold") if isinstance(one, str) else one for one in columns]
    return _Plain(*folded, title=title, title_justify="left", box=None, pad_edge=False, show_header=header)


def number(name: str) -> Column:
    """A column of figures."""
    return Column(name, justify="right")


def facts() -> Table:
    """A table of names and values."""
    return table(Column(style="bold"), Column(overflow="fold"), header=False)


def run_summary(final: Tree, seconds: float) -> RenderableType:
    """Steps and seconds, metrics side by side, verdicts with reasons, and where to look."""
    parts: list[RenderableType] = [""]
    if final["cached"]:
        parts.append(Text("Nothing changed: this key has been run before, and no work was done again.", style="bold"))
    if final["steps"]:
        parts.append(step_table(final["steps"]))
    return Group(*parts, _metrics(final["metrics"]), _facts(final, seconds))


def step_table(steps: Sequence[Tree]) -> Table:
    """Steps with their seconds and status."""
    shown = table("step", number("seconds"), "status", title="Steps")
    for step in steps:
        shown.add_row(step["name"], f"{step['seconds']:.1f}", step["status"])
    return shown


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    subjects = {name: values for name, values in metrics.items() if values}
    shown = table("metric", *map(number, subjects), title="Metrics on the same held-out rows")
    for metric in SHOWN_METRICS:
        if any(metric in values for values in subjects.values()):
            cells = [f"{values[metric]:.4f}" if metric in values else "-" for values in subjects.values()]
            shown.add_row(metric, *cells)
    return shown


def _facts(final: Tree, seconds: float) -> Table:
    shown = facts()
    left_out = in_words(final.get("dropped") or {})
    for place, (name, words) in enumerate(left_out):
        shown.add_row("" if place else "left out", f"{name}: {words}")
    for name in ("drift", "gate", "canary"):
        if final.get(name):
            shown.add_row(name, _verdict(final[name]))
    places = ("endpoint", "report", "mlflow", "kubeflow", "next")
    for name in ("review", "version", "run_id", "key", "data_digest", "model_digest", *places):
        if final.get(name):
            shown.add_row(name.replace("_", " "), str(final[name]))
    if answer := final.get("answer"):
        said = answer.get("label") or answer.get("value")
        shown.add_row("asked", f"{answer['text']!r} → {said!r} by version {answer['model_version']}")
    shown.add_row("wall time", f"{seconds:.1f} s")
    return shown


def _verdict(decision: Tree) -> str:
    reasons = list(decision["reasons"])
    more = f"; and {len(reasons) - SHOWN_REASONS} more in the report" if len(reasons) > SHOWN_REASONS + 1 else ""
    return f"{decision['verdict']}: " + "; ".join(reasons[:SHOWN_REASONS] if more else reasons) + more


def verdict_line(name: str, decision: Tree | None) -> Text:
    """One decision as a line."""
    return Text(f"{name}: {_verdict(decision) if decision else 'not reached'}")
