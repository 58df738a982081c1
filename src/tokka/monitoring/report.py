"""drift.html: our verdict and its reasons on top, Evidently's view of the newest window below; one file, no network."""

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TypedDict

import jinja2

from tokka import files
from tokka.monitoring import evidently_report
from tokka.monitoring.drift.columns import Columns, comparable, from_window
from tokka.monitoring.drift.drift import WindowDrift
from tokka.monitoring.drift.windows import Window


class Outcome(TypedDict):
    """What a look at the traffic decided; `alert` asks for a person, `snapshot` is a path or empty.

    `reference` says how many rows of what the windows were compared with.
    """

    verdict: str
    alert: bool
    drift: str
    reference: str
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
        import pandas as pd

        pair = comparable(reference, from_window(newest.rows))
        sides = [pd.DataFrame({name: both[side] for name, both in pair.numbers.items()}) for side in (0, 1)]
        for frame, classes in zip(sides, pair.classes or (), strict=False):
            frame[evidently_report.CLASSES] = classes
        before, after = evidently_report.with_rare_together(sides)
        page = str(evidently_report.compare(before, after, alpha).get_html_str(as_iframe=False))
    source = package_files("tokka.monitoring").joinpath("drift.html.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    head = template.render(outcome=outcome, windows=windows)
    files.write_text(path, page.replace("<body>", f"<body>{head}", 1))
