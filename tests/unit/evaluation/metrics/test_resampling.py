"""Resamples and their metrics: the same figures as scikit-learn's on the rows drawn."""

import numpy as np
import pytest

from tests.unit.evaluation.metrics import scikit
from tests.unit.evaluation.metrics.test_metrics import some_scores
from tokka.evaluation.metrics import resampling


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


def test_weights_are_whole_resamples_and_repeat_with_the_seed():
    first = np.concatenate(list(resampling.resamples(500, 3000, seed=5)))
    assert first.shape == (3000, 500)
    assert (first.sum(axis=1) == 500).all()
    assert (first == np.concatenate(list(resampling.resamples(500, 3000, seed=5)))).all()
    assert (first != np.concatenate(list(resampling.resamples(500, 3000, seed=6)))).any()


@pytest.mark.slow
def test_resamples_are_counted_in_blocks_and_not_one_by_one():
    target, scores = some_scores(3000, 77)
    statistics, blocks = resampling.classification_statistics(target, scores, ranking=False), []

    def counting(weights):
        blocks.append(len(weights))
        return statistics(weights)

    drawn = resampling.draw(counting, 3000, 2000, 1)
    assert {values.shape for values in drawn.values()} == {(2000,)}
    assert sum(blocks) == 2000 and min(blocks[:-1]) > 100
