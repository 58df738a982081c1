"""Statistics of held-out texts, so that drift can be seen before there is a model."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tokka.data import normalising
from tokka.data.rows import Row

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORDS = 500


def describe(rows: Sequence[Row]) -> dict[str, object]:
    """Class shares or target quantiles, length quantiles, and the most frequent words with the share of their texts."""
    words = Counter(word for row in rows for word in set(normalising.key(row.text).split()))
    frequent = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    numbers = [row.target for row in rows if isinstance(row.target, float)]
    classes = Counter(str(row.target) for row in rows if not isinstance(row.target, float))
    return {
        "rows": len(rows),
        "characters": _quantiles([len(row.text) for row in rows]),
        "words_per_text": _quantiles([len(row.text.split()) for row in rows]),
        "class_shares": {name: count / len(rows) for name, count in sorted(classes.items())},
        "target": _quantiles(numbers),
        "word_shares": {word: count / len(rows) for word, count in frequent},
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.quantile(values, QUANTILES).tolist() if values else ()
    return dict(zip(map("{:g}".format, QUANTILES), found, strict=bool(values)))
