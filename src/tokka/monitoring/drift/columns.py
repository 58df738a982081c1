"""What drift is looked for in: the same few columns from held-out rows and from a window of traffic.

`new_words` is the share of a text's words that the reference does not know. A row is scored by the words of one half
of the reference, and a reference row never by its own half: scored by the whole, every new row would look odd.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokka.request_log.framing import LogRecord

Floats = NDArray[np.float64]
NUMBERS = ("confidence", "length", "unknown", "value")
Cells = Sequence[str | float | None]


@dataclass(frozen=True)
class Columns:
    """Columns of equal length; `classes` are predicted labels, `texts` is empty when texts are not stored.

    `origin` says in words whose rows a reference holds.
    """

    numbers: Mapping[str, Floats]
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    origin: str = ""

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.numbers.values()), ()))

    @property
    def described(self) -> str:
        """How many rows of what, for people."""
        return f"{self.rows} rows: {self.origin or 'held-out rows'}"


@dataclass(frozen=True)
class Pair:
    """Reference and window side by side: numeric columns of both, and predicted classes of both, if any."""

    numbers: Mapping[str, tuple[Floats, Floats]]
    classes: tuple[Sequence[str], Sequence[str]] | None


def from_table(table: Mapping[str, Cells], *, regression: bool) -> Columns:
    """The columns of held-out rows with `prediction`, length, unknown, and where known confidence and text."""
    texts = tuple(str(text or "") for text in table.get("text", ()))
    skipped = ("confidence", "value") if regression else ()
    numbers = {name: _floats(table[name]) for name in NUMBERS if name in table and name not in skipped}
    if regression:
        return Columns({**numbers, "value": _floats(table["prediction"])}, (), texts)
    return Columns(numbers, tuple(map(str, table["prediction"])), texts)


def from_window(rows: Sequence[LogRecord]) -> Columns:
    """The same columns of logged predictions."""
    numbers = {"length": _floats([row.get("length") for row in rows])}
    numbers["unknown"] = _floats([row.get("unknown") for row in rows])
    texts = tuple(row["text"] for row in rows) if all(isinstance(row.get("text"), str) for row in rows) else ()
    values = [row.get("value") for row in rows]
    if any(value is not None for value in values):
        return Columns({**numbers, "value": _floats(values)}, (), texts)
    numbers["confidence"] = _floats([row.get("score") for row in rows])
    return Columns(numbers, tuple(str(row.get("label")) for row in rows), texts)


def comparable(reference: Columns, current: Columns) -> Pair:
    """What both have, with `new_words` where both have texts."""
    shared = [name for name in NUMBERS if name in reference.numbers and name in current.numbers]
    numbers = {name: (reference.numbers[name], current.numbers[name]) for name in shared}
    if reference.texts and current.texts:
        numbers["new_words"] = new_words(reference.texts, current.texts)
    classes = (reference.classes, current.classes) if reference.classes and current.classes else None
    return Pair(numbers, classes)


def new_words(reference: Sequence[str], current: Sequence[str]) -> tuple[Floats, Floats]:
    """Share of words unknown to the other half of the reference, per text, of both sides."""
    vocabularies: tuple[set[str], set[str]] = (set(), set())
    for text in reference:
        vocabularies[_half(text)].update(words(text))
    shares = [[_share(text, vocabularies[1 - _half(text)]) for text in texts] for texts in (reference, current)]
    return _floats(shares[0]), _floats(shares[1])


def words(text: str) -> list[str]:
    """Lower-case words; every number is the same word, or each amount would be a new one."""
    return [re.sub(r"\d+", "0", word) for word in re.findall(r"\w+", text.casefold())]


def _share(text: str, vocabulary: set[str]) -> float:
    found = words(text)
    return sum(word not in vocabulary for word in found) / len(found) if found else 0.0


def _half(text: str) -> int:
    return hashlib.sha256(text.encode(errors="replace")).digest()[0] & 1


def _floats(values: Cells) -> Floats:
    return np.array([0.0 if value is None else float(value) for value in values], dtype=np.float64)
