"""Evidently's comparison of two tables as one self-contained page; it shows, and decides nothing.

It runs chi-square on classes and Kolmogorov-Smirnov on numbers: with its default methods the predicted class alarms on
every clean window of a model with many classes.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokka.progress import silent

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

# Classes beyond these are shown together: a chi-square over cells of one row each means nothing.
SHOWN_CLASSES = 30
CLASSES = "prediction"


def compare(reference: "pd.DataFrame", current: "pd.DataFrame", alpha: float | None = None) -> "Snapshot":
    """Evidently's snapshot of two tables with the same columns; `prediction` holds classes.

    `alpha` is split between the columns, and one that drifted is drift; None: Evidently's thresholds.
    """
    # Read when the library is imported: it would call home.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = list(reference.columns)
    classes, numbers = [name for name in columns if name == CLASSES], [name for name in columns if name != CLASSES]
    limits: dict[str, float] = {}
    if alpha is not None:
        limits = dict.fromkeys(("cat_threshold", "num_threshold"), alpha / len(columns))
        limits["drift_share"] = 0.99 / len(columns)
    definition = DataDefinition(categorical_columns=classes, numerical_columns=numbers)
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    preset = DataDriftPreset(columns=columns, cat_method="chisquare", num_method="ks", **limits)
    # Constant columns make scipy divide by zero, and warn; they are no drift, and the p-value says so.
    with silent():
        return Report([preset], include_tests=alpha is not None).run(*sides)


def with_rare_together(sides: Sequence["pd.DataFrame"]) -> list["pd.DataFrame"]:
    """The tables, with the classes beyond the most frequent SHOWN_CLASSES of all as `other classes`."""
    import pandas as pd

    if CLASSES not in sides[0].columns:
        return list(sides)
    shown = set(pd.concat([frame[CLASSES] for frame in sides]).value_counts().index[:SHOWN_CLASSES])
    named = (frame[CLASSES].where(frame[CLASSES].isin(shown), "other classes") for frame in sides)
    return [frame.assign(**{CLASSES: column}) for frame, column in zip(sides, named, strict=True)]
