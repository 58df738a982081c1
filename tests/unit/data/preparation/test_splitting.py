"""Which split a row is in: the same as data grows, and no text in two."""

import numpy as np
from hypothesis import given

from tests.unit.data.corpus import rows_of
from tokka.data import normalising
from tokka.data.preparation import splitting
from tokka.data.preparation.splitting import SPLITS, Split
from tokka.data.rows import Row

SHARES = {"validation_share": 0.2, "test_share": 0.3}


def split(rows: list[Row]) -> list[Split]:
    points = np.array([splitting.point(row, splitting.key(row)) for row in rows], np.uint64)
    classes = np.unique([str(row.target) for row in rows], return_inverse=True)[1].astype(np.int32)
    return [SPLITS[place] for place in splitting.split(points, classes, **SHARES)]


@given(rows_of, rows_of)
def test_a_row_stays_in_its_split_as_data_grows(old: list[Row], new: list[Row]) -> None:
    before = {one.text: splitting.membership(one, **SHARES) for one in old}
    after = {one.text: splitting.membership(one, **SHARES) for one in [*new, *old]}
    assert before == {text: after[text] for text in before}


@given(rows_of, rows_of)
def test_what_was_trained_on_never_becomes_test(old: list[Row], new: list[Row]) -> None:
    """Lent rows included, for classes with two training texts; a conflict would change a text's class, so none here."""
    labels = {normalising.key(one.text): one.target for one in [*new, *old]}
    first = sorted({Row(one.text, target=labels[normalising.key(one.text)]) for one in old})
    second = sorted({Row(one.text, target=labels[normalising.key(one.text)]) for one in [*old, *new]})
    training = [one for one in first if splitting.membership(one, **SHARES) == "train"]
    large = {
        label for label in "abc" if len({normalising.key(one.text) for one in training if one.target == label}) > 1
    }
    trained = {one for one, place in zip(first, split(first), strict=True) if place == "train"}
    tested = {one for one, place in zip(second, split(second), strict=True) if place == "test"}
    assert not {one for one in trained & tested if one.target in large}
