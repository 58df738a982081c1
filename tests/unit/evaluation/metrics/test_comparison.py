"""Paired comparison and slices: signs, exact tests, and error rates that were promised."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tokka.evaluation.metrics import comparison
from tokka.evaluation.metrics.comparison import compare, compare_on, compare_slices, mcnemar
from tokka.evaluation.metrics.slices import Slice
from tokka.evaluation.metrics.test_set import TestSet
from tokka.params import parse_params


def answers(right, classes=2):
    """Scores over `classes` whose first class is the truth wherever `right`."""
    scores = np.zeros((len(right), classes))
    scores[np.arange(len(right)), np.where(right, 0, 1)] = 1.0
    return scores


def test_a_better_candidate_has_a_positive_difference_for_accuracy_and_for_error():
    generator = np.random.default_rng(0)
    target = np.zeros(400, int)
    good, bad = answers(generator.random(400) < 0.95), answers(generator.random(400) < 0.7)
    found = compare("accuracy", target, good, bad, count=500, confidence=0.95, seed=1)
    assert 0 < found.low <= found.difference <= found.high
    assert found.p_value < 1e-6
    numbers = generator.normal(size=400)
    close, far = (numbers + generator.normal(0, spread, 400) for spread in (0.1, 0.5))
    found = compare("mae", numbers, close[:, None], far[:, None], count=500, confidence=0.95, seed=1)
    assert 0 < found.low <= found.difference <= found.high
    assert found.p_value < 1e-6


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "recall_macro", "precision_weighted"])
def test_a_model_against_itself_is_equal_but_fifty_rows_are_no_certainty(metric):
    target = np.arange(50) % 2
    scores = answers(np.arange(50) % 3 > 0)
    found = compare(metric, target, scores, scores, count=200, confidence=0.95, seed=1)
    _, low, high = comparison.paired_share_interval(np.zeros(50), 0.95)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert low < -0.05


def test_a_sure_metric_of_a_model_against_itself_is_exactly_equal():
    scores = answers(np.arange(50) % 3 > 0)
    found = compare("log_loss", np.zeros(50, int), scores, scores, count=200, confidence=0.95, seed=1)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)


def test_four_wins_and_no_loss_are_no_proof():
    """McNemar's exact p-value is 0.125; a bootstrap alone would put its low end above zero."""
    right = np.arange(100) < 80
    found = compare(
        "accuracy",
        np.zeros(100, int),
        answers(np.arange(100) < 84),
        answers(right),
        count=2000,
        confidence=0.95,
        seed=1,
    )
    assert found.difference == pytest.approx(0.04)
    assert found.low < 0 < found.high


def test_where_models_often_disagree_the_bootstrap_decides():
    generator = np.random.default_rng(5)
    one, two = generator.random(2000) < 0.7, generator.random(2000) < 0.6
    found = compare("accuracy", np.zeros(2000, int), answers(one), answers(two), count=2000, confidence=0.95, seed=1)
    mean, low, high = comparison.paired_share_interval(one * 1.0 - two, 0.95)
    assert found.low <= low < mean < high <= found.high
    assert found.high - found.low < 1.1 * (high - low)


def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements():
    right = np.array([1] * 9 + [0] * 2 + [1] * 30)
    other = np.array([0] * 9 + [1] * 2 + [1] * 30)
    assert mcnemar(right, other) == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_paired_interval_covers_equal_models_as_often_as_promised():
    generator, covered = np.random.default_rng(2), 0
    for seed in range(100):
        one, two = generator.random(300) < 0.9, generator.random(300) < 0.9
        found = compare(
            "accuracy", np.zeros(300, int), answers(one), answers(two), count=400, confidence=0.95, seed=seed
        )
        covered += found.low <= 0 <= found.high
    assert covered >= 88


def test_twenty_slices_of_equal_models_rarely_raise_one_false_alarm():
    """Without the correction about two of three such comparisons would call a slice worse."""
    generator, alarms = np.random.default_rng(3), 0
    slices = [Slice("part", str(number), np.arange(number * 60, number * 60 + 60)) for number in range(20)]
    for _ in range(200):
        differences = (generator.random(1200) < 0.9).astype(float) - (generator.random(1200) < 0.9)
        alarms += any(part.high < 0 for part in compare_slices(differences, slices, 0.95, shares=True))
    assert alarms <= 16


def test_a_slice_that_lost_ten_points_is_found_and_comes_first():
    differences = np.zeros(1000)
    differences[:30] = -1
    slices = [Slice("half", "first", np.arange(300)), Slice("half", "rest", np.arange(300, 1000))]
    worst, other = compare_slices(differences, slices, 0.95, shares=True)
    assert (worst.value, worst.difference) == ("first", pytest.approx(-0.1))
    assert worst.high < 0
    assert other.low < 0 < other.high, "agreement on every row is no certainty"


def test_regression_slices_use_students_interval():
    generator = np.random.default_rng(4)
    differences = generator.normal(-0.2, 0.1, 100)
    (found,) = compare_slices(differences, [Slice("all", "", np.arange(100))], 0.95, shares=False)
    low, high = stats.t.interval(0.95, 99, differences.mean(), stats.sem(differences))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("differences", [-np.ones(50), np.ones(50), np.zeros(50)])
def test_share_intervals_hold_their_mean_at_the_extremes(differences):
    mean, low, high = comparison.paired_share_interval(differences, 0.999)
    assert -1 <= low <= mean <= high <= 1


def test_the_p_value_of_a_slice_is_mcnemars_times_the_number_of_slices():
    """Twelve rows lost and two won of thirty: 2 * P(at most 2 of 14 | 0.5) = 212 / 16384, for each of two slices."""
    lost = np.array([-1.0] * 12 + [1.0] * 2 + [0.0] * 16)
    same = np.zeros(30)
    parts = [Slice("channel", "mail", np.arange(30)), Slice("channel", "chat", np.arange(30, 60))]
    worst, other = compare_slices(np.concatenate([lost, same]), parts, 0.95, shares=True)
    assert worst.p_value == pytest.approx(2 * 212 / 16384)
    assert other.p_value == 1.0


def test_rows_of_a_class_that_the_other_does_not_know_are_left_out():
    """A gain on a class that is new must not hide a loss on those that both know."""
    target = np.array([0, 1] * 40 + [2] * 40)
    right, wrong = np.eye(3)[target], np.eye(3)[(target + 1) % 3]
    older = np.where((target == 2)[:, None], wrong, right)
    older[:, 2] = 0.0
    newer = np.where((target == 2)[:, None], right, wrong)
    parts = [Slice("channel", "mail", np.arange(60, 100)), Slice("channel", "chat", np.arange(90, 120))]
    test = TestSet(pa.table({}), [""] * 120, None, target, ("a", "b", "new"), "d", 1.0, parts)
    found = compare_on(test, "accuracy", (newer, older), parse_params({"evaluation": {"bootstrap": 100}}))
    assert (found.rows, found.difference) == (80, -1.0)
    assert [(part.value, part.rows) for part in found.slices] == [("mail", 20)]
