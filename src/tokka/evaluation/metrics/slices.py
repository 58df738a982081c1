"""Parts of the test set that may fare worse than the whole: any slice_ column, length, rare classes, confidence.

A slice has to be the same rows for both models that are compared, and must not be chosen by what the newcomer
answered. So the least sure and the surest fifth are those of the champion, which stand before the candidate exists;
only the first version, which is compared with no champion, is sliced by its own confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokka.evaluation.metrics.metrics import Floats

PREFIX = "slice_"
# A class is called rare when the classes up to it, smallest first, hold no more than this share of the rows.
RARE_SHARE = 0.2
# The least sure and the surest part of the rows.
CONFIDENCE_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Slice:
    """Some rows of the test set: `slice` is the column, `value` the value that they share."""

    slice: str
    value: str
    rows: NDArray[np.int64]


def find_slices(test: pa.Table, classes: Sequence[str] | None, minimum_rows: int) -> list[Slice]:
    """Every slice with at least `minimum_rows` rows, in a stable order; a part that is the whole set is left out.

    `test`: the prepared test split (row_id, text, …, slice_<name>); `classes`: each row's class, or None for
    regression.
    """
    found: list[Slice] = []
    for column in sorted(name for name in test.column_names if name.startswith(PREFIX)):
        found += _by_value(column.removeprefix(PREFIX), test.column(column).to_pylist())
    found += _by_length(test.column("text").to_pylist())
    if classes is not None:
        found += _rare(classes)
    return [part for part in found if minimum_rows <= len(part.rows) < test.num_rows]


def by_confidence(scores: Floats, whose: str, minimum_rows: int) -> list[Slice]:
    """The rows on which a model is least sure and surest, a fifth of the test set each.

    `scores`: (rows, classes) probabilities of the champion or, without one, of the candidate; `whose`: which of them it
    is; it becomes part of the slice's name.
    """
    confidence = scores.max(axis=1)
    low, high = np.quantile(confidence, [CONFIDENCE_SHARE, 1.0 - CONFIDENCE_SHARE])
    # Where many rows are equally sure the two could overlap: a row that is in the one is not in the other.
    surest = np.flatnonzero((confidence >= high) & (confidence > low))
    found = [
        Slice("confidence", f"least sure fifth (the {whose} at most {low:.2f})", np.flatnonzero(confidence <= low)),
        Slice("confidence", f"surest fifth (the {whose} at least {high:.2f})", surest),
    ]
    return [part for part in found if minimum_rows <= len(part.rows) < len(scores)]


def _by_value(name: str, values: Sequence[object]) -> list[Slice]:
    texts = np.array(["(empty)" if value is None or value == "" else str(value) for value in values], dtype=object)
    return [Slice(name, value, np.flatnonzero(texts == value)) for value in sorted(set(texts))]


def _by_length(texts: Sequence[str]) -> list[Slice]:
    """The shortest and the longest third, by words; ties fall on one side, so that equal lengths stay together."""
    words = np.array([len(text.split()) for text in texts])
    low, high = np.quantile(words, [1 / 3, 2 / 3])
    return [
        Slice("length", f"short (at most {low:.0f} words)", np.flatnonzero(words <= low)),
        Slice("length", f"long (over {high:.0f} words)", np.flatnonzero(words > high)),
    ]


def _rare(classes: Sequence[str]) -> list[Slice]:
    names, inverse, counts = np.unique(np.asarray(classes, dtype=str), return_inverse=True, return_counts=True)
    order = np.argsort(counts, kind="stable")
    held = np.cumsum(counts[order])
    rare = order[held <= RARE_SHARE * len(classes)]
    if not len(rare) or len(names) < 3:
        return []
    return [Slice("class size", f"rare classes ({len(rare)})", np.flatnonzero(np.isin(inverse, rare)))]
