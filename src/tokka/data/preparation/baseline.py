"""Statistics of held-out texts, so that drift can be seen before there is a model."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokka.data import normalising
from tokka.data.rows import Row

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORDS = 500


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """Class shares or target quantiles, length quantiles, slice shares and the most frequent words, as plain data."""
    words = Counter(word for row in rows for word in set(normalising.key(row.text).split()))
    frequent = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    targets = [row.target for row in rows]
    numbers = bool(targets) and isinstance(targets[0], float)
    return {
        "rows": len(rows),
        "characters": _quantiles([len(row.text) for row in rows]),
        "words_per_text": _quantiles([len(row.text.split()) for row in rows]),
        "class_shares": {} if numbers else _shares([str(target) for target in targets]),
        "target": _quantiles([float(target) for target in targets]) if numbers else {},
        "word_shares": {word: count / len(rows) for word, count in frequent},
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = np.quantile(np.asarray(values, dtype=np.float64), QUANTILES)
    return {f"{share:g}": float(number) for share, number in zip(QUANTILES, found, strict=True)}


def _shares(values: Sequence[str]) -> dict[str, float]:
    return {value: count / len(values) for value, count in sorted(Counter(values).items())}
