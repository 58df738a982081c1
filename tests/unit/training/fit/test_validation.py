"""The figures of a validation: those of scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from tokka.training.fit.validation import is_better, validation_metrics


def test_the_figures_of_classification_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, 200)  # class 4 is never the truth, and sometimes the answer
    logits = generator.normal(size=(200, 5)) + 2 * np.eye(5)[targets]
    found, predicted = validation_metrics("classification", logits, targets), logits.argmax(axis=1)
    assert 4 in predicted
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, predicted))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(targets, predicted, labels=range(4), average="macro"))
    assert found["loss"] == pytest.approx(sk.log_loss(targets, softmax(logits, axis=1), labels=range(5)))


def test_the_figures_of_regression_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(1000, 2, 100)
    values = targets + generator.normal(0, 1, 100)
    found = validation_metrics("regression", values[:, None], targets)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, values))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, values))
    assert found["r2"] == pytest.approx(sk.r2_score(targets, values))
    assert validation_metrics("regression", values[:, None], np.ones(100))["r2"] == 0.0


@pytest.mark.parametrize(("lost", "kept"), [(0, True), (2, True), (20, False)])
def test_of_few_rows_the_fine_tuned_network_is_given_up_only_for_more_than_noise(lost: int, kept: bool) -> None:
    """The head answers all 77 rows right; two less are noise, twenty are not."""
    targets = np.arange(77) % 7
    linear = np.eye(7)[targets]
    tuned = np.eye(7)[np.where(np.arange(77) < lost, (targets + 1) % 7, targets)]
    assert is_better("classification", tuned, linear, targets, few=True) is kept
    assert is_better("classification", tuned, linear, targets) is (lost == 0)
