"""The sections of the report that show details: ways, learning curve, forms, calibration, behaviour, data insight."""

from collections.abc import Sequence

from tokka.evaluation.report.charts import curve_figure
from tokka.evaluation.report.wording import difference, interval, metric_name, p_value
from tokka.files import Tree

Cell = tuple[str, str, str]
UNKNOWN = "not recorded"
UNMEASURED = "not measured"
SPENT = "{:,.0f} s of processor time"
CALIBRATION = ("ece", "log_loss", "brier")


def decision_view(details: Tree) -> dict[str, object] | None:
    """The table of the ways, what each costs, and the learning curve."""
    found = details.get("decision")
    if not found:
        return None
    metric, money, rows = found["metric"], found["prices"]["currency"], found["rows"]
    chosen = found["recommendation"]["name"]
    return {
        "headline": ("So far: " if found.get("missing") else "") + headline(found["recommendation"], rows),
        "missing": found.get("missing", []),
        "rows": [_shown(row, chosen, _decision_cells(row, metric, money)) for row in rows],
        "costs": [_shown(row, chosen, _cost_cells(row, money)) for row in rows if not row["problem"]],
        "curve": [{"cells": _curve_cells(point, metric), "problem": point["problem"]} for point in found["curve"]],
        "figure": curve_figure(found["curve"], rows, metric),
        "requests": f"{found['prices']['requests_per_day']:,}",
        "metric": metric_name(metric),
        **{name: found[name] for name in ("rule", "formula", "reading", "recommendation", "country")},
    }


def headline(recommendation: Tree, rows: Sequence[Tree]) -> str:
    """The answer in a few words."""
    title = next((row["title"] for row in rows if row["name"] == recommendation["name"]), "")
    return {
        "specialise": f"Specialised: {title}",
        "stay simple": f"Stay simple: {title.removeprefix('Simple: ')}",
        "stay general": f"Stay general: {title.removeprefix('General: ')}",
        "undecided": "No answer: figures are missing",
    }[recommendation["verdict"]]


def price(value: float | None, currency: str) -> str:
    """Money with as many digits as it takes to be more than nothing."""
    if value is None:
        return UNMEASURED
    return f"{value:,.2f} {currency}" if value >= 0.1 or value == 0 else f"{value:.2g} {currency}"


def _shown(row: Tree, chosen: str, cells: list[Cell]) -> dict[str, object]:
    known = {name: row[name] for name in ("title", "operations", "note", "problem")}
    return {**known, "chosen": row["name"] == chosen, "cells": [] if row["problem"] else cells}


def _decision_cells(row: Tree, metric: str, money: str) -> list[Cell]:
    return [
        _quality(row, metric),
        ("Latency, median / 99 of 100", _milliseconds(row), ""),
        ("Size", _known(row["size_mb"], "{:,.0f} MB", "none here"), ""),
        (
            "Cost per month",
            price(row["per_month"], money),
            "" if row["per_1000"] is None else f"{price(row['per_1000'], money)} per 1,000",
        ),
        ("Training", price(row["training_cost"], money) if row["training_cost"] is not None else UNKNOWN, _spent(row)),
        ("Labelled rows", _known(row["labelled_rows"], "{:,}", UNKNOWN), ""),
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
            _known(energy.get("wh"), "{:.2g} Wh", UNMEASURED),
            energy.get("reason", ""),
        ),
        ("CO₂ of 1,000, estimated", _known(energy.get("g_co2"), "{:.2g} g", UNMEASURED), ""),
        ("Processor time of one", _known(row["cpu_ms"], "{:.2f} ms"), ""),
        ("Peak memory", _known(row["memory_mb"], "{:,.0f} MB"), ""),
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
        ("Training, processor time", _known(point["cpu_seconds"], "{:,.0f} s", UNKNOWN), ""),
    ]


def _milliseconds(row: Tree) -> str:
    if row["p50_ms"] is None:
        return UNMEASURED
    digits = 1 if row["p99_ms"] < 100 else 0
    return f"{row['p50_ms']:,.{digits}f} / {row['p99_ms']:,.{digits}f} ms"


def _spent(row: Tree) -> str:
    return "none" if row["training_cpu_seconds"] == 0 else _known(row["training_cpu_seconds"], SPENT)


def _known(value: float | None, pattern: str, otherwise: str = "") -> str:
    return otherwise if value is None else pattern.format(value)


def forms_view(details: Tree) -> dict[str, object] | None:
    """The rows of the table of forms; None when there was one form only."""
    found = details.get("forms")
    if not found:
        return None
    metric, names = found["metric"], [row["form"] for row in found["rows"]]
    return {
        **found,
        "title": metric_name(metric),
        "classes": any("disagreement" in (row["against"] or {}) for row in found["rows"]),
        # The edge profile serves int8 and nothing else.
        "others": [name for name in names if name != found["served"] and not found["profile"].startswith("edge")],
        "rows": [_form_row(metric, row) for row in found["rows"]],
    }


def temperature_rows(details: Tree) -> list[dict[str, object]]:
    """Calibration error, log loss and Brier score, each before and after with its interval; none for regression."""
    found = details.get("temperature")
    if not found:
        return []
    return [
        {"name": metric_name(name), **{when: interval(name, found[when][name]) for when in ("before", "after")}}
        for name in CALIBRATION
    ]


def _form_row(metric: str, row: Tree) -> dict[str, object]:
    value, bounds = interval(metric, row["quality"])
    against = row["against"]
    change, change_bounds = difference(metric, against) if against else ("", "")
    p = p_value(against["p_value"]) if against else ""
    return {**row, "value": value, "bounds": bounds, "change": change, "change_bounds": change_bounds, "p": p}


def behaviour_view(details: Tree) -> dict[str, object] | None:
    """The behaviour section's texts; None when no tests were asked for."""
    found = details.get("behaviour")
    if not found:
        return None
    run = [test for test in found["tests"] if "subjects" in test]
    names = list(found["robustness"])
    failed = [test["name"] for test in run if test["subjects"][names[0]]["verdict"] == "fail"]
    held = f"{len(run) - len(failed)} of {len(run)} tests reach their minimum"
    return {
        "file": found["file"],
        "most": found["rows"],
        "subjects": names,
        "robustness": _robustness(found["robustness"], names),
        "headline": f"{held}{'; short of it: ' + ', '.join(failed) if failed else ''}.",
        "rows": run,
        "examples": [test for test in run if test["subjects"][names[0]]["examples"]],
        "skipped": [test for test in found["tests"] if "skipped" in test],
    }


def _robustness(found: Tree, names: list[str]) -> str:
    if found[names[0]] is None:
        return "not measured: no invariance test applies"
    others = [f"{name} {100 * found[name]:.1f} %" for name in names[1:] if found[name] is not None]
    return f"{100 * found[names[0]]:.1f} %" + (f" ({', '.join(others)})" if others else "")


def insight_view(details: Tree) -> dict[str, object] | None:
    """The data insight section's texts; None when nothing was looked at."""
    found = details.get("insight")
    if not found:
        return None
    errors, overlap = found["errors"], max(found["overlap"].values(), default=0)
    seen = f"{overlap:,} test rows" if overlap else "No test row"
    flagged, reading = ("", "") if "problem" in errors else _doubtful(errors)
    return {
        **found,
        "flagged": flagged,
        "reading": reading,
        "overlap": f"{seen} can be found in training or validation too.",
    }


def _doubtful(errors: Tree) -> tuple[str, str]:
    flagged = (
        f"{errors['flagged']:,} of {errors['rows']:,} training {errors['kind']} are suspected "
        f"({100 * errors['share']:.1f} %)"
    )
    scope = f"A seeded sample of the {errors['of']:,} training rows. " if errors["rows"] < errors["of"] else ""
    if errors["kind"] == "values":
        return flagged, f"{scope}Farther than three standard deviations from what the other rows make one expect."
    agreed = f"the head agrees with {100 * errors['agreement']:.1f} % of the labels"
    return flagged, (
        f"{scope}Suspected by a linear head that has not seen the row ({agreed}). Some are wrong labels, some only "
        "hard or ambiguous: read the first ones before you change any."
    )
