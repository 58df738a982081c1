"""drift.html: our verdict and its reasons on top, Evidently's report of the newest window below; one file, no network.

Evidently only shows: its own verdict is not used. With its default methods the predicted class alarms on every clean
window of a model with many classes, so it is told to use chi-square and Kolmogorov-Smirnov at our alpha, divided by
the number of columns.
"""

import html
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokka import files
from tokka.monitoring.drift.columns import Columns, comparable, from_window
from tokka.monitoring.drift.drift import WindowDrift
from tokka.monitoring.drift.windows import Window

# Classes beyond these are shown together: a chi-square over cells of one row each means nothing.
SHOWN_CLASSES = 30
STYLE = (
    "font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1100px; margin: 24px auto;"
    "padding: 0 16px"
)
COLOURS = {"drifted": "#b3261e", "suspected": "#9a6700", "clean": "#1a7f37"}


def write(
    path: Path,
    outcome: Mapping[str, Any],
    windows: Sequence[WindowDrift],
    newest: Window | None,
    reference: Columns | None,
    alpha: float,
) -> None:
    """Write the page; without a full window or a reference it is our part alone, which says so."""
    head = _head(outcome, windows)
    if newest is None or reference is None:
        files.write_text(path, f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><body>{head}</body></html>\n')
        return
    page = evidently_page(newest, reference, alpha)
    files.write_text(path, page.replace("<body>", f"<body>{head}", 1))


def evidently_page(newest: Window, reference: Columns, alpha: float) -> str:
    """Evidently's own report on one window, as self-contained HTML."""
    # Read when the library is imported: it would call home.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    before, after, classes = _frames(newest, reference)
    columns = list(before.columns)
    definition = DataDefinition(
        categorical_columns=classes, numerical_columns=[name for name in columns if name not in classes]
    )
    threshold = alpha / len(columns)
    preset = DataDriftPreset(
        columns=columns,
        cat_method="chisquare",
        num_method="ks",
        cat_threshold=threshold,
        num_threshold=threshold,
        # One column that drifted is drift; Evidently's default asks for half of them.
        drift_share=0.99 / len(columns),
    )
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (after, before)]
    with warnings.catch_warnings():
        # Constant columns make scipy divide by zero; they are no drift, and the p-value says so.
        warnings.simplefilter("ignore")
        snapshot = Report([preset], include_tests=True).run(*sides)
        return str(snapshot.get_html_str(as_iframe=False))


def _frames(newest: Window, reference: Columns) -> tuple[Any, Any, list[str]]:
    import pandas as pd

    pair = comparable(reference, from_window(newest.rows))
    before, after = (pd.DataFrame({name: both[side] for name, both in pair.numbers.items()}) for side in (0, 1))
    if pair.classes is None:
        return before, after, []
    together = pd.Series([*pair.classes[0], *pair.classes[1]])
    shown = set(together.value_counts().index[:SHOWN_CLASSES])
    named = together.where(together.isin(shown), "other classes")
    before["prediction"] = named.iloc[: len(before)].to_numpy()
    after["prediction"] = named.iloc[len(before) :].to_numpy()
    return before, after, ["prediction"]


def _head(outcome: Mapping[str, Any], windows: Sequence[WindowDrift]) -> str:
    colour = COLOURS.get(str(outcome["drift"]), "#57606a")
    reasons = "".join(f"<li>{html.escape(str(reason))}</li>" for reason in outcome["reasons"])
    title = html.escape(f"{str(outcome['drift']).replace('_', ' ')}, so: {outcome['verdict']}")
    title += ", and a person has to look" if outcome["alert"] else ""
    replayed = any(window.replayed for window in windows)
    note = "<p>Part of this traffic was replayed by the pipeline, not sent by users.</p>" if replayed else ""
    return (
        f'<section style="{STYLE}"><h1 style="font-size: 22px; color: {colour}">{title}</h1><ul>{reasons}</ul>{note}'
        f"{_table(windows)}<p>The verdict is Tokka's: one permutation test over all columns. "
        "What follows, if there is a full window, is Evidently's view of the newest one.</p></section>"
    )


def _table(windows: Sequence[WindowDrift]) -> str:
    if not windows:
        return ""
    names = [column.name for column in windows[-1].columns]
    head = "".join(f'<th style="text-align: right; padding: 2px 10px">{html.escape(name)}</th>' for name in names)
    rows = "".join(_row(window) for window in windows)
    return (
        '<table style="border-collapse: collapse; font-variant-numeric: tabular-nums"><tr>'
        f'<th style="text-align: left">Window</th><th style="padding: 2px 10px">Verdict</th><th>p</th>{head}</tr>{rows}'
        "</table><p>Per column: mean of the reference → mean of the window, and the p-value of that column alone.</p>"
    )


def _row(window: WindowDrift) -> str:
    cells = "".join(
        f'<td style="text-align: right; padding: 2px 10px">{column.reference:.3g} → {column.window:.3g}'
        f"<br><small>p = {column.p:.3f}</small></td>"
        for column in window.columns
    )
    colour = COLOURS.get(window.verdict, "#57606a")
    return (
        f'<tr style="border-top: 1px solid #d0d7de"><td>{window.number} ({window.rows} rows)</td>'
        f'<td style="padding: 2px 10px; color: {colour}">{window.verdict.replace("_", " ")}</td>'
        f"<td>{window.p:.4f}</td>{cells}</tr>"
    )
