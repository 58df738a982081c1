"""What drift is looked for in: the same few columns from held-out rows and from a window of traffic.

    reference = from_table({"prediction": […], "length": […], …}, regression=False)
    current = from_window(window.rows)
    pair = comparable(reference, current)          # pair.numbers, pair.classes

`new_words` is the share of a text's words that the reference does not know. A row is scored by the words of one half
of the reference, and a reference row never by its own half: so a clean row of traffic and a held-out row are scored
alike, where scoring by the whole reference would call every new row odd.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Required, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NUMBERS = ("confidence", "length", "unknown", "value")


class Record(TypedDict, total=False):
    """What is read here of a record of the request log (`request_log.framing.LogRecord`)."""

    kind: Required[str]
    prediction_id: Required[str]
    time: Required[float]
    version: str
    replayed: bool
    shadow: bool
    label: str | None
    score: float | None
    value: float | None
    text: str
    text_pair: str | None
    length: int
    unknown: float
    source: str


@dataclass(frozen=True)
class Columns:
    """Columns of equal length; `classes` are predicted labels, `texts` is empty when texts are not stored."""

    numbers: Mapping[str, Floats]
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.numbers.values()), ()))


@dataclass(frozen=True)
class Pair:
    """Reference and window side by side: numeric columns of both, and predicted classes of both, if any."""

    numbers: Mapping[str, tuple[Floats, Floats]]
    classes: tuple[Sequence[str], Sequence[str]] | None


def from_table(table: Mapping[str, Sequence[Any]], *, regression: bool) -> Columns:
    """The columns of held-out rows with `prediction`, length, unknown, and where known confidence and text."""
    texts, skipped = _texts(table), ("confidence", "value") if regression else ()
    numbers = {name: _floats(table[name]) for name in NUMBERS if name in table and name not in skipped}
    if regression:
        return Columns({**numbers, "value": _floats(table["prediction"])}, (), texts)
    return Columns(numbers, tuple(map(str, table["prediction"])), texts)


def from_window(rows: Sequence[Record]) -> Columns:
    """The same columns of logged predictions."""
    found = {name: [row.get(name) for row in rows] for name in ("length", "unknown", "value", "text")}
    numbers = {name: _floats(found[name]) for name in ("length", "unknown")}
    texts = _texts(found) if all(isinstance(text, str) for text in found["text"]) else ()
    if any(value is not None for value in found["value"]):
        return Columns({**numbers, "value": _floats(found["value"])}, (), texts)
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


def _floats(values: Sequence[Any]) -> Floats:
    return np.array([0.0 if value is None else float(value) for value in values], dtype=np.float64)


def _texts(found: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    return tuple(str(text or "") for text in found["text"]) if "text" in found else ()
