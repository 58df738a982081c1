"""Slices of the test rows: columns, lengths, rare classes, and how sure the labels are."""

import numpy as np
import pyarrow as pa

from tokka.evaluation.metrics.slices import by_confidence, find_slices


def table(rows=300):
    return pa.table(
        {
            "text": ["word " * (1 + number % 9) for number in range(rows)],
            "slice_channel": [("mail", "chat", None)[number % 3] for number in range(rows)],
            "slice_tiny": ["x" if number < 5 else "y" for number in range(rows)],
        }
    )


def test_slices_are_columns_length_and_rare_classes_with_enough_rows():
    classes = ["big"] * 200 + ["mid"] * 60 + ["small"] * 25 + ["smaller"] * 15
    found = find_slices(table(), classes, minimum_rows=20)
    named = {(part.slice, part.value): len(part.rows) for part in found}
    assert named[("channel", "mail")] == named[("channel", "(empty)")] == 100
    assert ("tiny", "x") not in named
    assert named[("class size", "rare classes (2)")] == 40
    assert {name for name, _ in named} == {"channel", "tiny", "length", "class size"}


def test_no_slice_is_the_whole_set_and_regression_has_no_classes():
    same = pa.table({"text": ["three little words"] * 100, "slice_only": ["a"] * 100})
    assert find_slices(same, None, minimum_rows=10) == []


def test_confidence_slices_are_the_least_and_the_most_sure_fifth_of_the_given_scores():
    confidence = np.linspace(0.5, 1.0, 100)
    scores = np.stack([confidence, 1 - confidence], axis=1)
    least, surest = by_confidence(scores, "champion", minimum_rows=20)
    assert least.rows.tolist() == list(range(20))
    assert surest.rows.tolist() == list(range(80, 100))
    assert "champion" in least.value
    assert by_confidence(scores, "champion", minimum_rows=21) == []


def test_equally_sure_rows_make_no_overlapping_slices():
    scores = np.tile([0.9, 0.1], (100, 1))
    assert by_confidence(scores, "champion", minimum_rows=5) == []
