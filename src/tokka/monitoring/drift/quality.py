"""Is the traffic itself broken? Then a retraining would learn the breakage, and a person must look instead.

A jump is a share that is both significantly above the reference's (one-sided, far below any alpha that is used for
drift) and larger by at least JUMP: significance alone would call a tenth of a percent broken, given enough rows.
"""

import math
from statistics import mode

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
    both = (reference, current)
    seen = {
        "cannot be read by the tokenizer: wrong encoding?": [side.numbers["unknown"] > UNREADABLE for side in both],
        "are empty: is a field missing upstream?": [side.numbers["length"] <= EMPTY_TOKENS for side in both],
    }
    if reference.texts and current.texts:
        # No array of the texts themselves: each would take as many bytes as the longest of them.
        common = [(side.texts, mode(side.texts)) for side in both]
        seen["are one and the same: a broken template?"] = [
            np.array([text == most for text in texts]) for texts, most in common
        ]
    return tuple(f"{now.mean():.0%} of the texts {what}" for what, (before, now) in seen.items() if jumped(before, now))


def jumped(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether a share rose by at least JUMP and by more than chance gives (pooled z above Z)."""
    rise = float(after.mean() - before.mean())
    pooled = float(np.concatenate([before, after]).mean())
    spread = math.sqrt(pooled * (1 - pooled) * (1 / len(before) + 1 / len(after)))
    return rise >= JUMP and (spread == 0.0 or rise / spread > Z)
