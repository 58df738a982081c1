"""The learning curve as SVG: quality over training rows, and the un-tuned ways as lines to get above.

curve_figure(points, rows, "accuracy")
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokka.evaluation.report.figures import CANDIDATE, CARD, GENERAL, INK, LINE, _Canvas, _percent, _plain
from tokka.evaluation.report.wording import interval, is_share, metric_name

Tree = Mapping[str, Any]
COMPARED = {"linear": "linear head, un-tuned", "general": "un-tuned"}


def curve_figure(points: Sequence[Tree], rows: Sequence[Tree], metric: str) -> str:
    """The figure; empty for fewer than two measured points."""
    known = [point for point in points if not point["problem"] and point["low"] is not None]
    if len(known) < 2:
        return ""
    with _Canvas(440, 270, scale=1.5) as canvas:
        axes = canvas.axes
        counts = [point["rows"] for point in known]
        axes.plot(counts, [point["value"] for point in known], color=CANDIDATE, linewidth=1.8, alpha=0.8)
        for point in known:
            _point(canvas, point, metric)
        for row in rows:
            if row["name"] in COMPARED and row["low"] is not None:
                axes.axhline(row["quality"], color=GENERAL, linewidth=1.2, linestyle=(0, (4, 3)))
                _name(canvas, row, known, counts[-1])
        axes.set(xlabel="training rows", ylabel=metric_name(metric).lower(), xlim=(0, counts[-1] * 1.04))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(_percent if is_share(metric) else _plain)
        axes.tick_params(labelcolor=INK)
        axes.grid(color=LINE, linewidth=0.6)
        return canvas.svg("learning curve")


def _name(canvas: _Canvas, row: Tree, known: Sequence[Tree], most: int) -> None:
    """Write who a line is at the end that the curve is farther from."""
    left, right = (abs(point["value"] - row["quality"]) for point in (known[0], known[-1]))
    at = (most * 0.02, "left") if left > right else (most, "right")
    canvas.axes.annotate(
        COMPARED[row["name"]], (at[0], row["quality"]), (0, 3), textcoords="offset points",
        color=INK, ha=at[1], fontsize=9,
    )  # fmt: skip


def _point(canvas: _Canvas, point: Tree, metric: str) -> None:
    value, bounds = interval(metric, point)
    tip = f"{point['rows']:,} training rows: {value}, {bounds}"
    places = [point["rows"]] * 2
    bar = canvas.axes.plot(places, [point["low"], point["high"]], color=CANDIDATE, linewidth=2.4, alpha=0.55)
    dot = canvas.axes.plot(
        places[:1], [point["value"]], "o", color=CANDIDATE, markersize=7, markeredgecolor=CARD, zorder=3
    )
    canvas.tip(bar[0], tip)
    canvas.tip(dot[0], tip)
