"""Is the traffic itself broken? Then a retraining would learn the breakage, and a person must look instead.

    problems = inspect(reference, current)      # () when all is well

A jump is a share that is both significantly above the reference's (one-sided, far below any alpha that is used for
drift) and larger by at least JUMP: significance alone would call a tenth of a percent broken, given enough rows.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokka.monitoring.drift.columns import Columns

JUMP = 0.1
Z = 4.0
# A text of which the tokenizer does not know every fifth piece is in another script or in a broken encoding.
UNREADABLE = 0.2
# Start and end marks are two tokens: a text of no more has no content.
EMPTY_TOKENS = 2


def inspect(reference: Columns, current: Columns) -> tuple[str, ...]:
    """What is broken in the window, as sentences for people."""
    found = []
    if jumped(_unreadable(reference), _unreadable(current)):
        found.append(f"{_unreadable(current).mean():.0%} of the texts cannot be read by the tokenizer: wrong encoding?")
    if jumped(_empty(reference), _empty(current)):
        found.append(f"{_empty(current).mean():.0%} of the texts are empty: is a field missing upstream?")
    if reference.texts and current.texts and jumped(_repeated(reference.texts), _repeated(current.texts)):
        found.append(f"{_repeated(current.texts).mean():.0%} of the texts are one and the same: a broken template?")
    return tuple(found)


def jumped(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether a share rose by at least JUMP and by more than chance gives (pooled z above Z)."""
    rise = float(after.mean() - before.mean())
    pooled = float(np.concatenate([before, after]).mean())
    spread = math.sqrt(pooled * (1 - pooled) * (1 / len(before) + 1 / len(after)))
    return rise >= JUMP and (spread == 0.0 or rise / spread > Z)


def _unreadable(columns: Columns) -> NDArray[np.bool_]:
    return columns.numbers["unknown"] > UNREADABLE


def _empty(columns: Columns) -> NDArray[np.bool_]:
    return columns.numbers["length"] <= EMPTY_TOKENS


def _repeated(texts: Sequence[str]) -> NDArray[np.bool_]:
    most, _ = Counter(texts).most_common(1)[0]
    return np.array([text == most for text in texts])
