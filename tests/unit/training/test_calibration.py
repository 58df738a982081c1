"""The calibration error, by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from tokka.training.calibration import LEVELS, conformal_limits, expected_calibration_error


def test_the_calibration_error_of_a_hand_made_case() -> None:
    """Ten rows sure by 0.9 of which six are right, ten sure by 0.6 of which all are: (0.3 + 0.4) / 2."""
    logits = np.log([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 6 + [1] * 4 + [0] * 10)
    assert expected_calibration_error(logits, targets) == pytest.approx(0.35, abs=1e-6)
    # Small logits look like probabilities to torchmetrics, which would then take no softmax.
    assert expected_calibration_error(np.array([[0.2, 0.8]] * 4), np.ones(4, int)) == pytest.approx(
        1 - float(softmax([0.2, 0.8])[1]), abs=1e-6
    )


@pytest.mark.parametrize("rows", [30, 200])
def test_sets_hold_the_truth_as_often_as_their_level_says(rows: int) -> None:
    """Split conformal prediction: over many draws of calibration rows the mean coverage is at least the level."""
    random, covered = np.random.default_rng(1), {f"{level:g}": 0.0 for level in LEVELS}
    for _ in range(300):
        logits = random.normal(size=(2 * rows, 5)) * 2
        targets = np.array([random.choice(5, p=softmax(one)) for one in logits])
        limits = conformal_limits(logits[:rows], targets[:rows], 1.0)
        truths = softmax(logits, axis=1)[np.arange(2 * rows), targets][rows:]
        for level, limit in limits.items():
            covered[level] += (truths >= limit).mean() / 300
    assert all(share >= float(level) - 0.004 for level, share in covered.items()), covered
    assert covered["0.8"] < 0.8 + 1 / rows + 0.01
    assert conformal_limits(logits[:5], targets[:5], 1.0)["0.9"] == 0.0, "five rows say nothing at 0.9"
