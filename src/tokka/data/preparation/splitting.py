"""Which split a row belongs to, decided by a hash of its own text (or group) and by nothing else.

So a row that was test stays test however the data grows, and no champion is judged on what it was trained on.
"""

import hashlib
from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokka.data import normalising
from tokka.data.rows import Row

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
Points = NDArray[np.uint64]
Places = NDArray[np.int8]


def key(row: Row) -> str:
    """Text and pair as they are compared: equal but for case and punctuation is equal."""
    return "\n".join(normalising.key(text) for text in (row.text, row.text_pair) if text)


def point(row: Row, key: str) -> int:
    """64 bits from the row's key, or from its group where rows belong together."""
    content = f"group\n{row.group}" if row.group else key if row.text_pair else f"{key}\n"
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")


def membership(row: Row, *, validation_share: float, test_share: float, official: Collection[Split] = ()) -> Split:
    """The split of a row; an `official` split has a file of its own, and none of its rows is taken from here."""
    points = np.array([point(row, key(row))], np.uint64)
    place = split(points, None, validation_share=validation_share, test_share=test_share, official=official)[0]
    return SPLITS[int(place)]


def split(
    points: Points,
    classes: NDArray[np.int32] | None,
    *,
    validation_share: float,
    test_share: float,
    official: Collection[Split] = (),
) -> Places:
    """The split of each row, as its place in SPLITS, with every class in every split where it has rows enough.

    A class without a test or validation text gives its lowest-placed training text, if it has two. As the class grows
    that text may return to training; one that was trained on never moves out of it: growth adds only lower-placed ones.

    `points`: of the rows; `classes`: their numbers from 0, or None where no class asks for rows: numbers, groups.
    """
    numbers = points.astype(float) / 2**64
    places = np.full(len(points), TRAIN, np.int8)
    if "test" not in official:
        places[numbers < test_share] = TEST
    if "validation" not in official:
        places[(test_share <= numbers) & (numbers < test_share + validation_share)] = VALIDATION
    if classes is not None and len(classes):
        _fill(numbers, classes, places, [place for place in (TEST, VALIDATION) if SPLITS[place] not in official])
    return places


def _fill(numbers: NDArray[np.float64], classes: NDArray[np.int32], places: Places, wanting: Collection[int]) -> None:
    every = np.bincount(classes)
    for wanted in wanting:
        counts = np.bincount(classes[places == wanted], minlength=len(every))
        for lacking in np.flatnonzero((every > 0) & (counts == 0)):
            training = np.flatnonzero((classes == lacking) & (places == TRAIN))
            # Every training row of one key: two rows with the same key must not stand in two splits.
            moved = training[numbers[training] == numbers[training].min(initial=1.0)]
            if len(moved) < len(training):
                places[moved] = wanted
