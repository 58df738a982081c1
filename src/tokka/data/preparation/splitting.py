"""Which split a row belongs to, decided by a hash of its own text (or group) and by nothing else.

So a row that was test stays test however the data grows, and no champion is judged on what it was trained on.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from tokka.data import normalising
from tokka.data.rows import Row

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def place(row: Row) -> float:
    """A number in [0, 1) from the normalised text and pair, or from the group where rows belong together."""
    content = f"group\n{row.group}" if row.group else f"{normalising.key(row.text)}\n{normalising.key(row.text_pair)}"
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64


def membership(row: Row, *, validation_share: float, test_share: float, official_test: bool = False) -> Split:
    """The split of a row; with an official test file its own rows are the test, and none is taken from here."""
    number = place(row)
    if number < test_share and not official_test:
        return "test"
    return "validation" if test_share <= number < test_share + validation_share else "train"


def split(
    rows: Sequence[Row], *, validation_share: float, test_share: float, official_test: bool = False
) -> list[Split]:
    """The split of each row, with every class in every split where it has rows enough and no group forbids it.

    A class that has no test or no validation text gives its lowest-placed training text, if it has two. As the class
    grows that text may return to training; a text that was trained on never moves out of it, since growth can only add
    lower-placed ones.
    """
    splits = [
        membership(row, validation_share=validation_share, test_share=test_share, official_test=official_test)
        for row in rows
    ]
    if not any(row.group or isinstance(row.target, float) for row in rows):
        _fill(rows, splits, ("validation",) if official_test else ("test", "validation"))
    return splits


def _fill(rows: Sequence[Row], splits: list[Split], wanting: tuple[Split, ...]) -> None:
    by_class: dict[str | float, list[int]] = {}
    for index, row in enumerate(rows):
        by_class.setdefault(row.target, []).append(index)
    for members in by_class.values():
        for name in wanting:
            if all(splits[index] != name for index in members):
                training = {index: place(rows[index]) for index in members if splits[index] == "train"}
                # Every training row of one key: two rows with the same key must not stand in two splits.
                moved = [index for index, number in training.items() if number == min(training.values())]
                if len(moved) < len(training):
                    for index in moved:
                        splits[index] = name
