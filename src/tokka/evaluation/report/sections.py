"""details.decision as people read it: the table of the ways, what each costs, and the learning curve.

view(details)["rows"][0]["cells"]       # (name of the column, value, small print) of each cell
"""

from collections.abc import Callable, Mapping
from typing import Any

from tokka.evaluation.report.charts import curve_figure
from tokka.evaluation.report.wording import interval, metric_name

Tree = Mapping[str, Any]
Cell = tuple[str, str, str]
UNKNOWN = "not recorded"
UNMEASURED = "not measured"


def view(details: Tree) -> dict[str, Any] | None:
    """What decision.html.jinja and cost.html.jinja show; None for details without a decision."""
    found = details.get("decision")
    if not found:
        return None
    metric, money, rows = found["metric"], found["prices"]["currency"], found["rows"]
    chosen = found["recommendation"]["name"]
    return {
        "headline": headline(found["recommendation"], rows),
        "rows": [_shown(row, chosen, _decision_cells(row, metric, money)) for row in rows],
        "costs": [_shown(row, chosen, _cost_cells(row, money)) for row in rows if not row["problem"]],
        "curve": [{"cells": _curve_cells(point, metric), "problem": point["problem"]} for point in found["curve"]],
        "figure": curve_figure(found["curve"], rows, metric),
        "requests": f"{found['prices']['requests_per_day']:,}",
        "metric": metric_name(metric),
        **{name: found[name] for name in ("rule", "formula", "reading", "recommendation", "country")},
    }


def headline(recommendation: Tree, rows: Any) -> str:
    """The answer in a few words."""
    title = next((row["title"] for row in rows if row["name"] == recommendation["name"]), "")
    return {
        "specialise": f"Specialised: {title}",
        "stay general": f"Stay general: {title.removeprefix('General: ')}",
        "undecided": "No answer: figures are missing",
    }[recommendation["verdict"]]


def price(value: float | None, currency: str) -> str:
    """Money with as many digits as it takes to be more than nothing."""
    if value is None:
        return UNMEASURED
    return f"{value:,.2f} {currency}" if value >= 0.1 or value == 0 else f"{value:.2g} {currency}"


def _shown(row: Tree, chosen: str, cells: list[Cell]) -> dict[str, Any]:
    known = {name: row[name] for name in ("title", "operations", "note", "problem")}
    return {**known, "chosen": row["name"] == chosen, "cells": [] if row["problem"] else cells}


def _decision_cells(row: Tree, metric: str, money: str) -> list[Cell]:
    return [
        _quality(row, metric),
        ("Latency, median / 99 of 100", _milliseconds(row), ""),
        ("Size", _known(row["size_mb"], lambda size: f"{size:,.0f} MB", "none here"), ""),
        (
            "Cost per month",
            price(row["per_month"], money),
            _known(row["per_1000"], lambda value: f"{price(value, money)} per 1,000"),
        ),
        ("Training", price(row["training_cost"], money) if row["training_cost"] is not None else UNKNOWN, _spent(row)),
        ("Labelled rows", _known(row["labelled_rows"], lambda rows: f"{rows:,}", UNKNOWN), ""),
    ]


def _quality(row: Tree, metric: str) -> Cell:
    if row["low"] is None:
        return (metric_name(metric), UNMEASURED, "")
    value, bounds = interval(metric, {"value": row["quality"], "low": row["low"], "high": row["high"]})
    if row["same_rows"]:
        bounds += f", on {row['rows']} rows; this specialist there: {' / '.join(interval(metric, row['same_rows']))}"
    return (metric_name(metric), value, bounds)


def _cost_cells(row: Tree, money: str) -> list[Cell]:
    energy = row["energy"]
    return [
        ("Per month", price(row["per_month"], money), ""),
        ("Per 1,000 predictions", price(row["per_1000"], money), ""),
        (
            "Energy of 1,000, estimated",
            _known(energy.get("wh"), lambda wh: f"{wh:.2g} Wh", UNMEASURED),
            energy.get("reason", ""),
        ),
        ("CO₂ of 1,000, estimated", _known(energy.get("g_co2"), lambda grams: f"{grams:.2g} g", UNMEASURED), ""),
        ("Processor time of one", _known(row["cpu_ms"], lambda time: f"{time:.2f} ms"), ""),
        ("Peak memory", _known(row["memory_mb"], lambda size: f"{size:,.0f} MB"), ""),
    ]


def _curve_cells(point: Tree, metric: str) -> list[Cell]:
    share = "all" if point["share"] == 1.0 else f"{100 * point['share']:g} %"
    if point["problem"]:
        return [("Share", share, "")]
    value, bounds = interval(metric, point) if point["low"] is not None else (UNMEASURED, "")
    return [
        ("Share", share, ""),
        ("Training rows", f"{point['rows']:,}", ""),
        (metric_name(metric), value, bounds),
        ("Training, processor time", _known(point["cpu_seconds"], lambda time: f"{time:,.0f} s", UNKNOWN), ""),
    ]


def _milliseconds(row: Tree) -> str:
    if row["p50_ms"] is None:
        return UNMEASURED
    digits = 1 if row["p99_ms"] < 100 else 0
    return f"{row['p50_ms']:,.{digits}f} / {row['p99_ms']:,.{digits}f} ms"


def _spent(row: Tree) -> str:
    return _known(row["training_cpu_seconds"], lambda time: f"{time:,.0f} s of processor time" if time else "none")


def _known(value: Any, show: Callable[[Any], str], otherwise: str = "") -> str:
    return otherwise if value is None else show(value)
