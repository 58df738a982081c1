"""Clean windows alarm as rarely as alpha says; new intents, words and shares are seen; broken traffic is told apart."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.unit.monitoring.conftest import Traffic
from tokka.errors import UsageError
from tokka.monitoring.drift import columns, drift, permutation
from tokka.monitoring.drift.columns import Columns, Pair, new_words
from tokka.monitoring.drift.drift import detect
from tokka.sections_serving import Monitoring

SMALL = Monitoring(window_rows=100, alpha=0.05)


def found(traffic: Traffic, **changes: float) -> drift.WindowDrift:
    return detect(traffic.window(250, **changes), traffic.reference(800), Monitoring())


def test_false_alarms_stay_within_alpha() -> None:
    """150 clean windows, each with a reference of its own; at alpha 0.05 more than 17 have a chance below 1 in 1000."""
    alarms = 0
    for seed in range(150):
        traffic = Traffic(seed)
        pair = columns.comparable(traffic.reference(120), columns.from_window(traffic.rows(60)))
        alarms += permutation.compare(pair, permutations=99, seed=seed).p < 0.05
    assert alarms <= 17


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"unsure": 0.15}, "confidence"),
        ({"new_words": 0.15}, "new_words"),
        ({"prior": 0.25}, "prediction"),
    ],
)
def test_a_shift_is_detected_and_its_column_named(traffic: Traffic, changes: dict[str, float], column: str) -> None:
    result = found(traffic, **changes)
    assert result.verdict == "drifted"
    assert min(result.columns, key=lambda one: one.p).name.startswith(column)
    assert result.quality == ()


def test_clean_traffic_of_many_classes_is_clean(traffic: Traffic) -> None:
    assert found(traffic).verdict == "clean"


def test_too_few_rows_are_insufficient_and_never_clean(traffic: Traffic) -> None:
    reference = traffic.reference(800)
    assert detect(traffic.window(249), reference, Monitoring()).verdict == "insufficient_data"
    small = replace(traffic.reference(249), origin="rows of test.csv")
    found = detect(traffic.window(250), small, Monitoring())
    assert found.verdict == "insufficient_data"
    assert found.reason.startswith("cannot tell: the reference has 249 rows: rows of test.csv, and 250 are needed")
    assert detect(traffic.window(49), traffic.reference(49), Monitoring(window_rows=20)).reason.endswith("window_rows")


def test_alpha_by_default_is_rarer_than_one_window_of_a_hundred() -> None:
    """Of 20 clean windows of 20 references, at alpha 0.002, two or more alarm in 1 of 1000 worlds."""
    alarms = 0
    for seed in range(20):
        traffic, small = Traffic(seed), Monitoring(window_rows=100)
        alarms += detect(traffic.window(100), traffic.reference(100), small).verdict == "drifted"
    assert alarms <= 1


def test_the_same_window_has_the_same_p(traffic: Traffic) -> None:
    window, reference = traffic.window(100), traffic.reference(200)
    assert detect(window, reference, SMALL) == detect(window, reference, SMALL)


def test_a_finer_alpha_than_shuffles_resolve_is_refused() -> None:
    assert drift.permutations(0.01) == 999
    with pytest.raises(UsageError, match="too fine"):
        drift.permutations(1e-6)


def test_unreadable_empty_and_repeated_texts_are_broken_traffic(traffic: Traffic) -> None:
    assert "wrong encoding" in found(traffic, unreadable=0.3).quality[0]
    reference = traffic.reference(400)
    rows = traffic.rows(250)
    empty = Columns({**columns.from_window(rows).numbers, "length": np.full(250, 2.0)}, (), ())
    assert "empty" in drift.quality.inspect(reference, empty)[0]
    for row in rows[:80]:
        row["text"] = "Dear {name}"
    assert "one and the same" in drift.quality.inspect(reference, columns.from_window(rows))[0]
    assert drift.quality.inspect(reference, columns.from_window(traffic.rows(250))) == ()


def test_one_long_text_costs_its_own_bytes_alone() -> None:
    texts = ("x" * 500_000, *map(str, range(249)))
    side = Columns({"unknown": np.zeros(250), "length": np.full(250, 9.0)}, (), texts)
    tracemalloc.start()
    try:
        assert drift.quality.inspect(side, side) == ()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_new_words_score_both_sides_alike() -> None:
    """A row that is in the reference must not profit from its own words."""
    traffic = Traffic(3)
    reference, current = traffic.reference(1500), traffic.reference(1500)
    before, after = new_words(reference.texts, current.texts)
    assert abs(before.mean() - after.mean()) < 0.01
    assert new_words(["a 12", "a 15"], [""])[1].tolist() == [0.0]


def test_regression_has_values_instead_of_classes(traffic: Traffic) -> None:
    rows = [{**row, "label": None, "score": None, "value": row["score"]} for row in traffic.rows(250, unsure=0.5)]
    reference = traffic.reference(600)
    numbers = {**reference.numbers, "value": reference.numbers["confidence"]}
    del numbers["confidence"]
    pair = columns.comparable(Columns(numbers), columns.from_window(rows))
    assert pair.classes is None
    result = permutation.compare(pair, permutations=199, seed=1)
    assert result.columns["value"] == min(result.columns.values())
    assert result.p == 1 / 200


@settings(max_examples=40, deadline=None)
@given(
    values=arrays(np.float64, st.integers(20, 60), elements=st.floats(-1e6, 1e6)),
    classes=st.lists(st.sampled_from("abc"), min_size=60, max_size=60),
)
def test_p_values_are_probabilities_for_any_numbers(values: np.ndarray, classes: list[str]) -> None:
    half = len(values) // 2
    pair = Pair({"x": (values[:half], values[half:])}, (classes[:half], classes[half : len(values)]))
    result = permutation.compare(pair, permutations=99, seed=0)
    assert 0.01 <= result.p <= 1
    assert all(0 < p <= 1 for p in result.columns.values())


def test_a_constant_column_says_nothing() -> None:
    pair = Pair({"x": (np.ones(30), np.ones(30))}, None)
    assert permutation.compare(pair, permutations=99, seed=0).p == 1.0
