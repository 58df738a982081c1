"""drift.html: our verdict and its reasons on top, Evidently's view of the newest window below; one file, no network."""

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import jinja2

from tokka import files
from tokka.monitoring import evidently_report
from tokka.monitoring.drift.columns import Columns, Pair, comparable, from_window
from tokka.monitoring.drift.drift import WindowDrift
from tokka.monitoring.drift.windows import Window

if TYPE_CHECKING:
    import pandas as pd


class Outcome(TypedDict):
    """What a look at the traffic decided; `alert` asks for a person, `snapshot` is a path or empty."""

    verdict: str
    alert: bool
    drift: str
    reasons: list[str]
    windows: list[dict[str, object]]
    rows_waiting: int
    labelled_rows: int
    snapshot: str
    trigger_key: str


def write(
    path: Path,
    outcome: Outcome,
    windows: Sequence[WindowDrift],
    newest: Window | None,
    reference: Columns | None,
    alpha: float,
) -> None:
    """Write the page; without a full window or a reference it is our part alone, which says so."""
    page = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><body></body></html>\n'
    if newest is not None and reference is not None:
        before, after = _frames(comparable(reference, from_window(newest.rows)))
        page = str(evidently_report.compare(before, after, alpha).get_html_str(as_iframe=False))
    source = package_files("tokka.monitoring").joinpath("drift.html.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    head = template.render(outcome=outcome, windows=windows)
    files.write_text(path, page.replace("<body>", f"<body>{head}", 1))


def _frames(pair: Pair) -> "list[pd.DataFrame]":
    import pandas as pd

    sides = [pd.DataFrame({name: both[side] for name, both in pair.numbers.items()}) for side in (0, 1)]
    for frame, classes in zip(sides, pair.classes or (), strict=False):
        frame[evidently_report.CLASSES] = classes
    return evidently_report.with_rare_together(sides)
