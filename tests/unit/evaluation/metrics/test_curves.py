"""What a threshold costs, by hand; rows that are out of scope are found by the name of their class."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.evaluation.metrics.curves import abstention


def of(target: list[int], classes: tuple[str, ...], scores: list[list[float]]) -> dict:
    return abstention(SimpleNamespace(target=np.array(target), classes=classes), np.array(scores))


def test_coverage_and_risk_of_a_hand_made_case():
    found = of([0, 1, 0, 1], ("a", "b"), [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    points = {point["threshold"]: (point["coverage"], point["risk"]) for point in found["curve"]}
    assert points[0.0] == (1.0, 0.25)
    assert points[0.65] == (0.75, pytest.approx(1 / 3, abs=1e-6))
    assert points[0.85] == (0.25, 0.0)
    assert points[0.95] == (0.0, None)
    assert found["out_of_scope"] is None


@pytest.mark.parametrize("name", ["oos", "out_of_scope", "Out of scope", "OOD"])
def test_rows_out_of_scope_are_told_by_the_confidence_in_a_class_that_is_in_scope(name):
    sure, torn, strange = [0.9, 0.05, 0.05], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]
    found = of([0, 0, 2, 2], ("a", "b", name), [sure, torn, strange, strange])["out_of_scope"]
    assert found == {"label": name, "rows": 2, "auroc": 1.0}
    assert of([0, 0, 1, 1], ("a", "scope", "b"), [sure] * 4)["out_of_scope"] is None


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0.5, 1.0)), min_size=1, max_size=30))
def test_a_higher_threshold_never_answers_more(rows):
    found = of([target for target, _ in rows], ("a", "b"), [[sure, 1 - sure] for _, sure in rows])
    coverage = [point["coverage"] for point in found["curve"]]
    assert coverage == sorted(coverage, reverse=True)
    assert coverage[0] == 1.0
