"""Figures of an evaluation as SVG: quality over training rows, what a threshold costs, how the training went."""

from collections.abc import Mapping, Sequence

from tokka.evaluation.report.figures import CANDIDATE, CARD, GENERAL, INK, Canvas
from tokka.evaluation.report.wording import interval, is_share, metric_name
from tokka.files import Tree
from tokka.training.fit.validation import STEERING

COMPARED = {"linear": "linear head, un-tuned", "general": "un-tuned"}
LOSSES = {"train_loss": ("training", CANDIDATE), "validation_loss": ("validation", GENERAL)}


def curve_figure(points: Sequence[Tree], rows: Sequence[Tree], metric: str) -> str:
    """The figure; empty for fewer than two measured points."""
    known = [point for point in points if not point["problem"] and point["low"] is not None]
    if len(known) < 2:
        return ""
    with Canvas(440, 270, scale=1.5) as canvas:
        axes = canvas.axes
        counts = [point["rows"] for point in known]
        axes.plot(counts, [point["value"] for point in known], color=CANDIDATE, linewidth=1.8, alpha=0.8)
        for point in known:
            _point(canvas, point, metric)
        for row in rows:
            if row["name"] in COMPARED and row["low"] is not None:
                axes.axhline(row["quality"], color=GENERAL, linewidth=1.2, linestyle=(0, (4, 3)))
                _label_line(canvas, row, known, counts[-1])
        axes.set(xlabel="training rows", ylabel=metric_name(metric).lower(), xlim=(0, counts[-1] * 1.04))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        canvas.grid(percent=is_share(metric), labels=INK)
        return canvas.svg("learning curve")


def risk_figure(curve: Sequence[Tree]) -> str:
    """The share of wrong answers over the share of rows that are answered, by threshold."""
    known = [point for point in curve if point["risk"] is not None]
    with Canvas(340, 270, scale=1.2) as canvas:
        axes = canvas.axes
        shares = [(point["coverage"], point["risk"]) for point in known]
        axes.plot(*zip(*shares, strict=True), color=CANDIDATE, linewidth=1.8, alpha=0.8)
        for point in known:
            tip = (
                f"threshold {point['threshold']:g}: {point['coverage']:.1%} answered, {point['risk']:.1%} of them wrong"
            )
            canvas.dot(point["coverage"], point["risk"], 5, CANDIDATE, tip)
        axes.set(xlabel="share of rows answered", ylabel="share of these wrong", xlim=(0.0, 1.02))
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        canvas.grid(percent=True)
        return canvas.svg("risk over coverage")


def _label_line(canvas: Canvas, row: Tree, known: Sequence[Tree], most: int) -> None:
    """Write who a line is at the end that the curve is farther from."""
    left, right = (abs(point["value"] - row["quality"]) for point in (known[0], known[-1]))
    at = (most * 0.02, "left") if left > right else (most, "right")
    canvas.axes.annotate(
        COMPARED[row["name"]], (at[0], row["quality"]), (0, 3), textcoords="offset points",
        color=INK, ha=at[1], fontsize=9,
    )  # fmt: skip


def _point(canvas: Canvas, point: Tree, metric: str) -> None:
    value, bounds = interval(metric, point)
    tip = f"{point['rows']:,} training rows: {value}, {bounds}"
    canvas.bar((point["rows"], point["rows"]), (point["low"], point["high"]), CANDIDATE, tip)
    canvas.dot(point["rows"], point["value"], 7, CANDIDATE, tip, edge=CARD, zorder=3)


def training_figures(curves: Sequence[Tree], task: str) -> dict[str, str]:
    """Both figures; none for a model whose training is not known here, or that saw a single epoch."""
    if len(curves) < 2:
        return {}
    name = STEERING[task][0]
    return {
        "losses": _by_epoch(curves, LOSSES, "loss", "losses by epoch", percent=False),
        "metric": _by_epoch(
            curves,
            {f"validation_{name}": ("validation", CANDIDATE)},
            f"{metric_name(name).lower()} on validation rows",
            "validation metric by epoch",
            percent=is_share(name),
        ),
    }


def _by_epoch(
    curves: Sequence[Tree], lines: Mapping[str, tuple[str, str]], label: str, name: str, *, percent: bool
) -> str:
    with Canvas(340, 240, scale=1.2) as canvas:
        axes = canvas.axes
        for key, (title, colour) in lines.items():
            points = [(row["epoch"], row[key]) for row in curves if key in row]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, alpha=0.8)
            for epoch, value in points:
                canvas.dot(epoch, value, 5, colour, f"epoch {epoch:.0f}, {title}: {value:.4f}")
            for last in points[-1:]:
                axes.annotate(title, last, (-2, 5), textcoords="offset points", color=colour, ha="right", fontsize=9)
        axes.set(xlabel="epoch", ylabel=label)
        axes.locator_params(axis="x", integer=True, nbins=8)
        canvas.grid(percent=percent)
        return canvas.svg(name)
