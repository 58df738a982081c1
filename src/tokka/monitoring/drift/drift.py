"""Does a window of traffic still look like the held-out rows that the champion was tested on?

The reference is test rows: against training rows, on which every model is surer, all clean traffic looks drifted, and
so it does against validation rows of a training file whose classes are not as frequent as the traffic's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tokka.errors import UsageError
from tokka.monitoring.drift import permutation, quality
from tokka.monitoring.drift.columns import Columns, Pair, comparable, from_window
from tokka.monitoring.drift.windows import Window
from tokka.sections_serving import Monitoring

Verdict = Literal["drifted", "clean", "insufficient_data"]
# A reference of fewer rows than the window says less of clean traffic than the window itself: its own chance deviations
# would alarm window after window.
MINIMUM_REFERENCE = 50
MINIMUM_PERMUTATIONS, MAXIMUM_PERMUTATIONS = 999, 4999


@dataclass(frozen=True)
class Column:
    """One column on both sides: means, and the p-value of that column alone."""

    name: str
    reference: float
    window: float
    p: float


@dataclass(frozen=True)
class WindowDrift:
    """What was found in one window; `p` holds for all columns together, `reason` says why nothing can be told."""

    number: int
    verdict: Verdict
    p: float
    rows: int
    replayed: int = 0
    columns: tuple[Column, ...] = ()
    quality: tuple[str, ...] = ()
    window: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""


def detect(window: Window, reference: Columns, monitoring: Monitoring) -> WindowDrift:
    """Compare one window with the reference; UsageError when alpha is finer than permutations can resolve."""
    current = from_window(window.rows)
    blank = WindowDrift(
        window.number, "insufficient_data", 1.0, current.rows, window.replayed, window=window.describe()
    )
    if lacking := _lacking(current.rows, reference, monitoring.window_rows):
        return replace(blank, reason=lacking)
    pair = comparable(reference, current)
    found = permutation.compare(pair, permutations=permutations(monitoring.alpha), seed=int(window.digest[:8], 16))
    return replace(
        blank,
        verdict="drifted" if found.p < monitoring.alpha else "clean",
        p=found.p,
        columns=_columns(pair, found),
        quality=quality.inspect(reference, current),
    )


def _lacking(rows: int, reference: Columns, window_rows: int) -> str:
    """What there is too little of for any statement; empty when there is enough."""
    needed = max(MINIMUM_REFERENCE, window_rows)
    if reference.rows < needed:
        return (
            f"cannot tell: the reference has {reference.described}, and {needed} are needed; "
            "name a larger data.test, or lower monitoring.window_rows"
        )
    return f"cannot tell: the window has {rows} rows, {window_rows} are needed" if rows < window_rows else ""


def permutations(alpha: float) -> int:
    """Enough shuffles that a p-value below alpha can be told from alpha; UsageError beyond MAXIMUM_PERMUTATIONS."""
    wanted = max(MINIMUM_PERMUTATIONS, math.ceil(5 / alpha))
    if wanted > MAXIMUM_PERMUTATIONS:
        finest = 5 / MAXIMUM_PERMUTATIONS
        raise UsageError(f"monitoring.alpha = {alpha} is too fine to be tested", f"choose {finest:.3f} or more")
    return wanted


def _columns(pair: Pair, found: permutation.Comparison) -> tuple[Column, ...]:
    columns = [
        Column(name, float(np.mean(both[0])), float(np.mean(both[1])), found.columns[name])
        for name, both in pair.numbers.items()
    ]
    if pair.classes:
        # A class has no mean; what can be shown is the share of the class that was most frequent before.
        before, after = (list(side) for side in pair.classes)
        top = max(sorted(set(before)), key=before.count)
        share_before, share_after = before.count(top) / len(before), after.count(top) / len(after)
        columns.append(Column(f"prediction (share of {top})", share_before, share_after, found.columns["prediction"]))
    return tuple(columns)
