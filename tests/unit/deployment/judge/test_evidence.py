"""From answers to what the judge looks at."""

import math

import numpy as np
import pytest

from tokka.deployment.judge.evidence import Pairs, Traffic, compare
from tokka.deployment.record.target import Answer

A, B, BROKEN = Answer(label="a", score=0.9), Answer(label="b", score=0.6), Answer(error="500")


@pytest.mark.parametrize(
    ("champion", "challenger", "target", "expected"),
    [
        (A, A, None, (0.0, 0.0)),
        (A, A, "b", (0.0, 0.0)),
        (A, B, "b", (1.0, 1.0)),
        (A, B, "a", (-1.0, 1.0)),
        (A, B, "c", (0.0, 1.0)),
        (A, BROKEN, "a", (-1.0, 1.0)),
        (A, BROKEN, "b", (0.0, 1.0)),
        (A, BROKEN, None, (-1.0, 1.0)),
        (A, Answer(label=""), "a", (-1.0, 1.0)),
        (A, Answer(label="a", score=math.nan), "a", (-1.0, 1.0)),
        (BROKEN, A, "a", None),
    ],
)
def test_classes_are_compared_by_who_is_right(champion, challenger, target, expected):
    assert compare(champion, challenger, target, None) == expected


def test_a_disagreement_without_a_label_is_unknown():
    difference, apart = compare(A, B, None, None)
    assert math.isnan(difference)
    assert apart == 1.0


@pytest.mark.parametrize(
    ("champion", "challenger", "target", "expected"),
    [
        (10.0, 12.0, 12.0, (0.5, 0.5)),
        (10.0, 12.0, 10.0, (-0.5, 0.5)),
        (10.0, 99.0, 10.0, (-1.0, 1.0)),
        (10.0, 10.0, 3.0, (0, 0)),
    ],
)
def test_values_are_compared_by_their_errors_in_units_of_the_scale(champion, challenger, target, expected):
    assert compare(Answer(value=champion), Answer(value=challenger), target, 4.0) == expected


def test_a_value_that_is_no_number_is_a_failure():
    assert compare(Answer(value=1.0), Answer(value=math.inf), 1.0, 4.0) == (-1.0, 1.0)
    assert compare(Answer(value=1.0), Answer(label="a"), 1.0, 4.0) == (-1.0, 1.0)


def test_nothing_is_empty_columns():
    assert (Pairs().difference.shape, Traffic().size) == ((0,), 0)


def test_the_first_of_each_key_in_the_order_in_which_they_come():
    keys = np.array([7.0, 3, 7, -1, 3, 5])
    assert Traffic(*[np.arange(6.0)] * 7, key=keys, told=keys).drawn().canary.tolist() == [0, 1, 3, 5]
    assert Traffic().drawn().size == 0
