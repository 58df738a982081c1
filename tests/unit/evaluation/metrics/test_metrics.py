"""Metrics of the rows: worst classes first, calibration, and what is refused."""

import math

import numpy as np
import pytest

from tests.unit.evaluation.metrics import scikit
from tokka.errors import TokkaError
from tokka.evaluation.evidence import per_class
from tokka.evaluation.metrics import metrics
from tokka.params import parse_params


def some_scores(rows=300, classes=5, seed=0, sharpness=1.5):
    generator = np.random.default_rng(seed)
    target = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), target] += sharpness
    scores = np.exp(logits)
    return target, scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_their_row(value):
    _, scores = some_scores(20)
    scores[7, 1] = value
    with pytest.raises(TokkaError, match="row 7"):
        metrics.check_scores(scores, 20, "the model")
    with pytest.raises(TokkaError, match="row 7"):
        metrics.check_scores(scores[:, 1:2], 20, "the model")


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
