"""What the report shows of forms and of calibration before and after, as text.

view(details)["rows"][1]["change"]      # "+0.2 points"
"""

from collections.abc import Mapping
from typing import Any

from tokka.evaluation.report.wording import difference, interval, metric_name

Tree = Mapping[str, Any]
CALIBRATION = ("ece", "log_loss", "brier")


def view(details: Tree) -> dict[str, Any] | None:
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
        "rows": [_row(metric, row) for row in found["rows"]],
    }


def temperature_rows(details: Tree) -> list[dict[str, Any]]:
    """Calibration error, log loss and Brier score, each before and after with its interval; none for regression."""
    found = details.get("temperature")
    if not found:
        return []
    return [
        {"name": metric_name(name), **{when: interval(name, found[when][name]) for when in ("before", "after")}}
        for name in CALIBRATION
    ]


def _row(metric: str, row: Tree) -> dict[str, Any]:
    value, bounds = interval(metric, row["quality"])
    against = row["against"]
    change, change_bounds = difference(metric, against) if against else ("", "")
    p = "" if not against else "< 0.0001" if against["p_value"] < 1e-4 else f"{against['p_value']:.4f}"
    return {**row, "value": value, "bounds": bounds, "change": change, "change_bounds": change_bounds, "p": p}
