"""The report's figures: SVG text that takes its colours from the page, so that light and dark both work.

matplotlib draws with stand-in colours, which are replaced by CSS variables afterwards; what a reader may point at
gets a <title>, which browsers show without any script.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Stand-ins: colours that nothing else uses, each for one CSS variable of report.css.
VARIABLES = {
    "#010203": "ink",
    "#010204": "soft",
    "#010205": "line",
    "#010206": "card",
    "#010207": "candidate",
    "#010208": "champion",
    "#010209": "general",
    "#01020a": "bad",
}
INK, SOFT, LINE, CARD, CANDIDATE, CHAMPION, GENERAL, BAD = VARIABLES
SUBJECT_COLOURS = {"candidate": CANDIDATE, "champion": CHAMPION, "general": GENERAL}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tokka",
    # Labels are data: a class named "$$" is no formula.
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
PIXELS_PER_INCH = 72.0
MAXIMUM_CLASSES = 100


class Mark(NamedTuple):
    """A value with its interval, of one subject, and what a pointer shows."""

    subject: str
    value: float
    low: float
    high: float
    tip: str


class Line(NamedTuple):
    """One line of a forest plot."""

    label: str
    marks: Sequence[Mark]


def forest(lines: Sequence[Line], *, percent: bool, zero: bool = False) -> str:
    """Intervals under each other; `zero` draws the line of no difference."""
    with Canvas(640, 46 + 32 * len(lines), scale=1.3) as canvas:
        axes = canvas.axes
        if zero:
            axes.axvline(0, color=SOFT, linewidth=1)
        for number, line in enumerate(lines):
            axes.axhline(number, color=LINE, linewidth=0.6, zorder=0)
            for place, mark in enumerate(line.marks):
                height = number + 0.22 * (place - (len(line.marks) - 1) / 2)
                colour = SUBJECT_COLOURS[mark.subject]
                canvas.bar((mark.low, mark.high), (height, height), colour, mark.tip)
                canvas.dot(mark.value, height, 6, colour, mark.tip, edge=CARD)
        axes.set_yticks(range(len(lines)), [_short(line.label, 38) for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(plain_tick if not percent else points_tick if zero else percent_tick)
        if percent and zero:
            axes.set_xlabel("percentage points")
        return canvas.svg("intervals")


def reliability(calibration: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Share right against confidence, candidate in front; the size of a dot grows with the rows of its bin.

    `before`, where it is given, are the candidate's bins before its temperature: a dotted line.
    """
    with Canvas(340, 320, scale=1.2) as canvas:
        axes = canvas.axes
        canvas.diagonal(0, 1)
        for name, style in {"before": (0, (1, 2)), "champion": "-", "candidate": "-"}.items():
            bins, colour = calibration.get(name, []), SUBJECT_COLOURS.get(name, CANDIDATE)
            points = [[part[axis] for part in bins] for axis in ("confidence", "accuracy")]
            axes.plot(*points, color=colour, linewidth=1.6, linestyle=style, alpha=0.8)
            if name == "before":
                continue
            total = sum(part["rows"] for part in bins) or 1
            for part in bins:
                sure, right = part["confidence"], part["accuracy"]
                tip = f"{name}: sure by {sure:.0%}, right in {right:.0%} of {part['rows']} rows"
                canvas.dot(sure, right, 3 + 9 * (part["rows"] / total) ** 0.5, colour, tip)
        return _unit_square(canvas, "confidence", "share right", "calibration")


def roc(curve: Mapping[str, Sequence[float]]) -> str:
    """The micro-averaged ROC curve of the candidate."""
    with Canvas(340, 320, scale=1.2) as canvas:
        canvas.diagonal(0, 1)
        canvas.axes.plot(curve["fpr"], curve["tpr"], color=CANDIDATE, linewidth=2)
        return _unit_square(canvas, "false positives", "true positives", "ROC curve")


def scatter(residuals: Mapping[str, Sequence[float]]) -> str:
    """Predicted value against the truth."""
    with Canvas(460, 420, scale=1.2) as canvas:
        axes = canvas.axes
        both = [*residuals["target"], *residuals["value"]]
        canvas.diagonal(min(both), max(both))
        axes.plot(residuals["target"], residuals["value"], "o", color=CANDIDATE, markersize=3.5, alpha=0.45)
        axes.set(xlabel="truth", ylabel="predicted")
        axes.xaxis.set_major_formatter(plain_tick)
        axes.yaxis.set_major_formatter(plain_tick)
        return canvas.svg("predicted against true values")


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Truth in rows, prediction in columns; right answers grey, mistakes red, deeper where a larger share of the row.

    Beyond MAXIMUM_CLASSES the classes with most mistakes are drawn.
    """
    shown = _worst_classes(matrix)
    cell = max(10.5, min(34.0, 640.0 / len(shown)))
    longest, side = max(len(labels[number]) for number in shown), cell * len(shown)
    margin = 7.0 * min(30, longest) * min(1.0, cell / 15 + 0.25)
    with Canvas(margin + side + 8, margin + side + 8, edges=(margin, 4, 4, margin)) as canvas:
        from matplotlib.patches import Rectangle

        for row, truth in enumerate(shown):
            total = sum(matrix[truth]) or 1
            for column, guess in enumerate(shown):
                if count := matrix[truth][guess]:
                    right, share = truth == guess, count / total
                    patch = Rectangle((column, row), 1, 1, facecolor=SOFT if right else BAD, linewidth=0)
                    patch.set_alpha(round((0.12 + 0.4 * share) if right else min(1.0, 0.35 + 2.0 * share), 2))
                    tip = f"{labels[truth]}: {count} of {total} " + ("right" if right else f"called {labels[guess]}")
                    canvas.tip(canvas.axes.add_patch(patch), tip)
                    if cell >= 22:
                        canvas.axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", fontsize=8)
        _name_cells(canvas.axes, [_short(labels[number], 30) for number in shown], cell)
        return canvas.svg("confusion matrix")


def _worst_classes(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Classes that occur or were predicted, in their order; of too many, those with most mistakes."""
    counts = np.asarray(matrix)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    seen = np.flatnonzero(counts.sum(axis=1) + wrong)
    return sorted(seen[np.argsort(-wrong[seen], kind="stable")[:MAXIMUM_CLASSES]].tolist())


def _name_cells(axes: "Axes", names: Sequence[str], cell: float) -> None:
    size = max(7.0, min(10.0, 0.7 * cell))
    places = [number + 0.5 for number in range(len(names))]
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=SOFT)
    axes.set_xlim(0, len(names))
    axes.set_ylim(len(names), 0)
    for side in axes.spines.values():
        side.set_visible(True)
    for number in range(1, len(names)):
        axes.axhline(number, color=LINE, linewidth=0.4, zorder=0)
        axes.axvline(number, color=LINE, linewidth=0.4, zorder=0)


def _unit_square(canvas: "Canvas", x: str, y: str, name: str) -> str:
    axes = canvas.axes
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(percent_tick)
    canvas.grid(percent=True)
    return canvas.svg(name)


def percent_tick(value: float, _: object = None) -> str:
    """An axis label: a share as a percentage."""
    return f"{100 * value:.10g} %"


def points_tick(value: float, _: object = None) -> str:
    """An axis label: a difference of shares in percentage points."""
    return f"{100 * value:+.10g}" if value else "0"


def plain_tick(value: float, _: object = None) -> str:
    """An axis label: four digits."""
    return f"{value:.4g}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Canvas:
    """One figure with one pair of axes, in pixels of the page; `edges` (left, right, bottom, top) fixes the margins.

    A page that is wide enough shows it `scale` times as large.
    """

    def __init__(
        self, width: float, height: float, edges: tuple[float, float, float, float] | None = None, scale: float = 1.0
    ) -> None:
        self._size, self._edges, self._scale, self._tips = (width, height), edges, scale, list[str]()

    def __enter__(self) -> "Canvas":
        import matplotlib
        from matplotlib.figure import Figure

        self._style = ExitStack()
        self._style.enter_context(matplotlib.rc_context(STYLE))
        size = (self._size[0] / PIXELS_PER_INCH, self._size[1] / PIXELS_PER_INCH)
        self._figure = Figure(figsize=size, layout=None if self._edges else "constrained")
        self.axes = self._figure.add_subplot()
        if self._edges:
            left, right, bottom, top = self._edges
            width, height = self._size
            self._figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
        return self

    def __exit__(self, *error: object) -> None:
        self._style.close()

    def grid(self, *, percent: bool, labels: str = SOFT) -> None:
        """Grid lines, and what is written along the axes: shares as percentages, or numbers."""
        self.axes.yaxis.set_major_formatter(percent_tick if percent else plain_tick)
        self.axes.tick_params(labelcolor=labels)
        self.axes.grid(color=LINE, linewidth=0.6)

    def diagonal(self, low: float, high: float) -> None:
        """The dashed line on which both coordinates are the same."""
        self.axes.plot([low, high], [low, high], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))

    def dot(
        self, x: float, y: float, size: float, colour: str, tip: str, edge: str | None = None, zorder: float = 2
    ) -> None:
        """A dot that says `tip`."""
        drawn = self.axes.plot([x], [y], "o", color=colour, markersize=size, markeredgecolor=edge, zorder=zorder)
        self.tip(drawn[0], tip)

    def bar(self, x: tuple[float, float], y: tuple[float, float], colour: str, tip: str) -> None:
        """An interval, drawn as a thick line that says `tip`."""
        self.tip(self.axes.plot(x, y, color=colour, linewidth=2.4, alpha=0.55)[0], tip)

    def tip(self, artist: "Artist", text: str) -> None:
        """Say `text` when a pointer rests on the artist."""
        artist.set_gid(f"tip-{len(self._tips)}")
        self._tips.append(text)

    def svg(self, name: str) -> str:
        """The figure as an <svg> element; `name` is what a screen reader says."""
        stream = io.StringIO()
        self._figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = stream.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
        text = re.sub(
            r'<g id="tip-(\d+)">', lambda found: f"<g><title>{html.escape(self._tips[int(found[1])])}</title>", text
        )
        text = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|PolyCollection)[._]\w*"', "", text)
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, f"var(--{variable})")
        width, height = self._size
        shown = f"{width * self._scale:.0f}px"
        head = f'<svg role="img" aria-label="{html.escape(name)}" style="max-width: {shown}; --width: {shown}"'
        head += f' viewBox="0 0 {width:g} {height:g}">'
        return head + text[text.index(">") + 1 :]
