"""Metrics of the rows and of resamples, and their intervals: the same figures as scikit-learn's, and never a NaN."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.evaluation.metrics import scikit
from tokka.errors import TokkaError
from tokka.evaluation.evidence import per_class
from tokka.evaluation.metrics import metrics, resampling
from tokka.evaluation.metrics.intervals import bootstrap
from tokka.evaluation.metrics.test_set import open_test
from tokka.params import parse_params


def some_scores(rows=300, classes=5, seed=0, sharpness=1.5):
    generator = np.random.default_rng(seed)
    target = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), target] += sharpness
    scores = np.exp(logits)
    return target, scores / scores.sum(axis=1, keepdims=True)


def expand(weights, *arrays):
    chosen = np.repeat(np.arange(len(weights)), weights.astype(int))
    return tuple(array[chosen] for array in arrays)


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct scores", "tied scores"])
def test_resampled_metrics_equal_scikit_learn_on_the_rows_drawn(rounded):
    target, scores = some_scores()
    if rounded:
        scores = np.round(scores, 1)
    weights = next(resampling.resamples(len(target), 5, seed=3))
    drawn = resampling.classification_statistics(target, scores)(weights)
    for number, row in enumerate(weights):
        wanted = scikit.classification(*expand(row, target, scores))
        assert {name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in wanted.items()} == {
            name: float(values[number]) for name, values in drawn.items()
        }


def test_resampled_regression_equals_scipy_on_the_rows_drawn():
    generator = np.random.default_rng(1)
    target = np.round(generator.normal(1000, 1, 200), 1)
    values = np.round(target + generator.normal(0, 0.5, 200), 1)
    weights = next(resampling.resamples(200, 4, seed=3))
    drawn = resampling.regression_statistics(target, values)(weights)
    for number, row in enumerate(weights):
        wanted = scikit.regression(*expand(row, target, values))
        assert wanted == {name: pytest.approx(float(found[number]), rel=1e-6) for name, found in drawn.items()}


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


def test_weights_are_whole_resamples_and_repeat_with_the_seed():
    first = np.concatenate(list(resampling.resamples(500, 3000, seed=5)))
    assert first.shape == (3000, 500)
    assert (first.sum(axis=1) == 500).all()
    assert (first == np.concatenate(list(resampling.resamples(500, 3000, seed=5)))).all()
    assert (first != np.concatenate(list(resampling.resamples(500, 3000, seed=6)))).any()


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_their_row(value):
    _, scores = some_scores(20)
    scores[7, 1] = value
    with pytest.raises(TokkaError, match="row 7"):
        metrics.check_scores(scores, 20, "the model")
    with pytest.raises(TokkaError, match="row 7"):
        metrics.check_scores(scores[:, 1:2], 20, "the model")


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


def test_per_class_is_worst_first_and_names_labels():
    target, scores = some_scores()
    rows = scikit.per_class(target, scores.argmax(axis=1), ("a", "b", "c", "d", "e"))
    assert {row["label"] for row in rows} == set("abcde")
    assert [row["f1"] for row in rows] == sorted(row["f1"] for row in rows)
    assert sum(row["rows"] for row in rows) == len(target)


def test_every_class_has_intervals_that_a_plain_resampling_confirms():
    target, scores = some_scores()
    predicted, names = scores.argmax(axis=1), ("a", "b", "c", "d", "e")
    rules = parse_params({})
    rows = per_class(target, predicted, names, rules)
    assert [row["label"] for row in rows] == [row["label"] for row in scikit.per_class(target, predicted, names)]
    generator = np.random.default_rng(0)
    for row in rows:
        drawn = []
        for _ in range(300):
            chosen = generator.integers(0, len(target), len(target))
            found = scikit.per_class(target[chosen], predicted[chosen], names)
            drawn += [other["f1"] for other in found if other["label"] == row["label"]]
        low, high = np.quantile(drawn, [0.025, 0.975])
        bounds = row["intervals"]["f1"]
        assert bounds["low"] <= row["f1"] <= bounds["high"]
        assert (bounds["low"], bounds["high"]) == pytest.approx((low, high), abs=0.04)


def test_calibration_bins_hold_every_row():
    target, scores = some_scores()
    bins = metrics.calibration(target, scores)
    assert sum(row["rows"] for row in bins) == len(target)
    gap = sum(abs(row["accuracy"] - row["confidence"]) * row["rows"] for row in bins) / len(target)
    assert gap == pytest.approx(scikit.classification(target, scores)["ece"])


@pytest.mark.slow
def test_two_thousand_resamples_of_three_thousand_rows_are_quick():
    target, scores = some_scores(3000, 77)
    began = time.process_time()
    resampling.draw(resampling.classification_statistics(target, scores, ranking=False), 3000, 2000, 1)
    assert time.process_time() - began < 4.0


def test_no_rows_is_a_clear_error():
    with pytest.raises(TokkaError, match="no test row"):
        open_test(SimpleNamespace(test=pa.table({"text": pa.array([], pa.string())})), [], 1)
