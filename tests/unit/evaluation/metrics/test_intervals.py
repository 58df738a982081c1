"""Values with their intervals: scikit-learn's values, bounds that cover the truth, and never a NaN."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.evaluation.metrics import scikit
from tests.unit.evaluation.metrics.test_metrics import some_scores
from tokka.evaluation.metrics import resampling
from tokka.evaluation.metrics.intervals import bootstrap
from tokka.params import parse_params


def figures(target, scores, count=100):
    """Values with intervals as the product computes them."""
    rules = parse_params({"evaluation": {"bootstrap": count}})
    classes = np.issubdtype(target.dtype, np.integer)
    make = resampling.classification_statistics if classes else resampling.regression_statistics
    return bootstrap(make(target, scores), len(target), rules)


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct scores", "tied scores"])
def test_the_values_are_those_of_scikit_learn(rounded):
    target, scores = some_scores()
    scores = np.round(scores, 1) if rounded else scores
    found = {name: bounds["value"] for name, bounds in figures(target, scores).items()}
    assert found == {
        name: pytest.approx(value, rel=1e-6) for name, value in scikit.classification(target, scores).items()
    }
    values = scores[:, 0] + 1000.0
    found = {name: bounds["value"] for name, bounds in figures(target + 0.5, values).items()}
    assert found == {
        name: pytest.approx(value, rel=1e-6) for name, value in scikit.regression(target + 0.5, values).items()
    }


def test_intervals_hold_the_value_and_cover_the_truth():
    covered = 0
    for seed in range(60):
        right = np.random.default_rng(seed).random(400) < 0.9
        target, scores = np.where(right, 0, 1), np.tile([0.9, 0.1], (400, 1))
        found = figures(target, scores, 500)
        assert all(bounds["low"] <= bounds["value"] <= bounds["high"] for bounds in found.values())
        covered += found["accuracy"]["low"] <= 0.9 <= found["accuracy"]["high"]
    assert covered >= 52


def test_undefined_metrics_are_absent_and_never_nan():
    one_class = figures(np.zeros(10, int), np.tile([0.7, 0.3], (10, 1)))
    assert "roc_auc" not in one_class
    assert "accuracy" in one_class
    assert "r2" not in figures(np.ones(10), np.arange(10.0))
    assert "pearson" not in figures(np.arange(10.0), np.ones(10))


@given(
    hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 3)),
    st.integers(0, 1000),
    st.sampled_from([0, 1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_classes_every_metric_and_bound_is_finite(target, seed, decimals):
    scores = np.round(np.random.default_rng(seed).dirichlet(np.ones(4), len(target)), decimals)
    found = figures(target, scores)
    assert found["accuracy"]["low"] >= 0
    for bounds in found.values():
        assert all(math.isfinite(value) for value in bounds.values())
