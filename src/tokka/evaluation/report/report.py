"""report.html: one self-contained page, verdict first, without scripts, readable in light and dark.

Pure: the page follows from evaluation.json, details.json and the gate's decision.
"""

from collections.abc import Mapping
from pathlib import Path

from tokka.evaluation.gate.rules import MAIN
from tokka.evaluation.metrics.metrics import METRICS
from tokka.evaluation.report import charts, figures, sections
from tokka.evaluation.report.figures import Line, Mark
from tokka.evaluation.report.wording import (
    difference,
    interval,
    is_share,
    metric_name,
    p_value,
    subject_title,
)
from tokka.files import Tree

SUBJECTS = ("candidate", "champion", "general")
FOLDER = Path(__file__).parent
DRAWN = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc", "average_precision")
DRAWN_REGRESSION = ("r2", "pearson", "spearman")


def render(evaluation: Tree, details: Tree, decision: Tree | None) -> str:
    """The page, as HTML text, of evaluation.json, details.json and `gate.Decision.as_dict()`, if decided."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"difference": difference, "p_value": p_value}
    subjects = {name: evaluation[name] for name in SUBJECTS if evaluation[name]}
    return environment.get_template("report.html.jinja").render(
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        evaluation=evaluation,
        details=details,
        decision=decision,
        subjects=subjects,
        titles={name: subject_title(name, found) for name, found in subjects.items()},
        tiles=tiles(evaluation),
        metrics=metric_rows(subjects),
        slices=slice_rows(evaluation),
        weighed=sections.decision_view(details),
        behaviour=sections.behaviour_view(details),
        insight=sections.insight_view(details),
        forms=sections.forms_view(details),
        temperature=sections.temperature_rows(details),
        figures=draw(evaluation, details, subjects),
        training=charts.training_figures(details.get("training_curves") or [], evaluation["task"]),
        pending=details.get("pending", []),
        problems=details.get("problems", {}),
    )


def tiles(evaluation: Tree) -> list[tuple[str, str, str]]:
    """The figures above all others: name, value, note."""
    candidate, metric = evaluation["candidate"], evaluation["metric"]
    found = [(metric_name(metric), *interval(metric, candidate["metrics"][metric]))]
    for name, title in (("champion", "against the champion"), ("general", "against the un-tuned")):
        if compared := evaluation["comparison"][name]:
            value, bounds = difference(metric, compared)
            found.append((title, value.removesuffix(" points"), f"points, {bounds}" if is_share(metric) else bounds))
    latency = ("latency, 99 of 100", f"{candidate['latency_ms']['p99']:.1f} ms", "one text, one thread")
    return [*found, latency, ("size", f"{candidate['size_mb']:.1f} MB", f"{candidate['form']} form")]


def metric_rows(subjects: Mapping[str, Tree]) -> list[Tree]:
    """Every metric that any model has, with its interval for each model; the best value of a row is marked."""
    rows: list[Tree] = []
    for metric, (title, higher, _) in METRICS.items():
        values = {name: found["metrics"].get(metric) for name, found in subjects.items()}
        known = {name: found["value"] for name, found in values.items() if found}
        if not known:
            continue
        best = max(known, key=lambda name: known[name] if higher else -known[name])
        cells = [
            (*interval(metric, values[name]), name == best) if values[name] else ("", "", False) for name in subjects
        ]
        rows.append({"name": title, "arrow": "higher is better" if higher else "lower is better", "cells": cells})
    return rows


def slice_rows(evaluation: Tree) -> list[Tree]:
    """Every slice: the candidate's figure and, where there is a champion, the difference; most lost first."""
    main, compared = MAIN[evaluation["task"]], evaluation["comparison"]["champion"]
    lost = {(part["slice"], part["value"]): part for part in compared["slices"]} if compared else {}
    rows = []
    for part in evaluation["candidate"]["slices"]:
        order, change, change_bounds = part["metric"]["value"] * (1 if main == "accuracy" else -1), "", ""
        if against := lost.get((part["slice"], part["value"])):
            change, change_bounds = difference(main, against)
            order, change_bounds = against["difference"], f"{change_bounds}, p {against.get('p_value', 1.0):.2g}"
        value, bounds = interval(main, part["metric"])
        row = {"value": value, "bounds": bounds, "change": change, "change_bounds": change_bounds, "order": order}
        rows.append({**row, "slice": part["slice"], "of": part["value"], "rows": part["rows"]})
    return sorted(rows, key=lambda row: (row["order"], row["slice"], row["of"]))


def draw(evaluation: Tree, details: Tree, subjects: Mapping[str, Tree]) -> dict[str, str]:
    """Every figure of the page as SVG; one that has nothing to show is left out."""
    found: dict[str, str] = {"metrics": _metric_forest(subjects, evaluation["task"])}
    if evaluation["comparison"]["champion"]:
        found["differences"] = _slice_forest(evaluation)
    elif evaluation["candidate"]["slices"]:
        found["slices"] = _slice_forest(evaluation)
    if "residuals" in details:
        return found | {"scatter": figures.scatter(details["residuals"])}
    before = (details.get("temperature") or {}).get("before", {}).get("bins", [])
    found["calibration"] = figures.reliability({**details["calibration"], "before": before})
    if details.get("abstention"):
        found["risk"] = charts.risk_figure(details["abstention"]["curve"])
    if details["roc"]["fpr"]:
        found["roc"] = figures.roc(details["roc"])
    return found | {"confusion": figures.confusion(**details["confusion"])}


def _metric_forest(subjects: Mapping[str, Tree], task: str) -> str:
    lines = []
    for metric in DRAWN if task == "classification" else DRAWN_REGRESSION:
        found = {name: subject["metrics"][metric] for name, subject in subjects.items() if metric in subject["metrics"]}
        if found:
            lines.append(Line(metric_name(metric), [_mark(name, metric, part) for name, part in found.items()]))
    return figures.forest(lines, percent=task == "classification")


def _slice_forest(evaluation: Tree) -> str:
    """The candidate's figure on each slice or, where there is a champion, the differences to it."""
    main, compared = MAIN[evaluation["task"]], evaluation["comparison"]["champion"]
    parts, lines = sorted(evaluation["candidate"]["slices"], key=lambda part: part["metric"]["value"]), []
    if compared:
        parts, lines = compared["slices"], [Line("all rows", [_difference_mark(evaluation["metric"], compared)])]
    for part in parts:
        mark = _difference_mark(main, part) if compared else _mark("candidate", main, part["metric"])
        lines.append(Line(f"{part['slice']}: {part['value']}", [mark]))
    return figures.forest(lines, percent=is_share(evaluation["metric"] if compared else main), zero=bool(compared))


def _mark(subject: str, metric: str, found: Tree) -> Mark:
    value, bounds = interval(metric, found)
    tip = f"{subject}: {metric_name(metric)} {value}, {bounds}"
    return Mark(subject, found["value"], found["low"], found["high"], tip)


def _difference_mark(metric: str, found: Tree) -> Mark:
    value, bounds = difference(metric, found)
    tip = f"{value} {bounds} on {found['rows']} rows"
    return Mark("candidate", found["difference"], found["low"], found["high"], tip)
