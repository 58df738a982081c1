"""How the training went, as SVG: losses and the metric that steered it, epoch by epoch.

figures = training_figures(outcome["curves"], "classification")     # {"losses": svg, "metric": svg}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokka.evaluation.report.figures import CANDIDATE, GENERAL, LINE, SOFT, _Canvas, _percent, _plain
from tokka.evaluation.report.wording import is_share, metric_name
from tokka.training.fit.validation import STEERING

Tree = Mapping[str, Any]
LOSSES = {"train_loss": ("training", CANDIDATE), "validation_loss": ("validation", GENERAL)}


def training_figures(curves: Sequence[Tree], task: str) -> dict[str, str]:
    """Both figures; none for a model whose training is not known here, or that saw a single epoch."""
    if len(curves) < 2:
        return {}
    name = STEERING[task][0]
    return {
        "losses": _figure(curves, LOSSES, "loss", "losses by epoch", percent=False),
        "metric": _figure(
            curves,
            {f"validation_{name}": ("validation", CANDIDATE)},
            f"{metric_name(name).lower()} on validation rows",
            "validation metric by epoch",
            percent=is_share(name),
        ),
    }


def _figure(
    curves: Sequence[Tree], lines: Mapping[str, tuple[str, str]], label: str, name: str, *, percent: bool
) -> str:
    with _Canvas(340, 240, scale=1.2) as canvas:
        axes = canvas.axes
        for key, (title, colour) in lines.items():
            _line(canvas, [(row["epoch"], row[key]) for row in curves if key in row], title, colour)
        axes.set(xlabel="epoch", ylabel=label)
        axes.locator_params(axis="x", integer=True, nbins=8)
        axes.yaxis.set_major_formatter(_percent if percent else _plain)
        axes.tick_params(labelcolor=SOFT)
        axes.grid(color=LINE, linewidth=0.6)
        return canvas.svg(name)


def _line(canvas: _Canvas, points: Sequence[tuple[float, float]], title: str, colour: str) -> None:
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    canvas.axes.plot(epochs, values, color=colour, linewidth=1.8, alpha=0.8)
    canvas.axes.annotate(title, points[-1], (-2, 5), textcoords="offset points", color=colour, ha="right", fontsize=9)
    for epoch, value in points:
        dot = canvas.axes.plot([epoch], [value], "o", color=colour, markersize=5)
        canvas.tip(dot[0], f"epoch {epoch:.0f}, {title}: {value:.4f}")
