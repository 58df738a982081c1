"""The strength of a linear head's regularisation follows the data, and the seed alone draws the folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.training.setup.linear_head import GRID, UNCHOSEN, choose_regularisation


def clusters(noise: float, rows: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random, targets = np.random.default_rng(seed), np.repeat(np.arange(4), rows)
    found = random.normal(size=(4, 16))[targets] + noise * random.normal(size=(4 * rows, 16))
    return (10 * found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), targets


def test_the_same_rows_and_seed_choose_the_same_and_pure_classes_need_no_freedom() -> None:
    features, targets = clusters(0.1)
    assert choose_regularisation(features, targets, 3) == choose_regularisation(features, targets, 3) == GRID[0]


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 0, 1]])
def test_classes_with_hardly_a_row_are_no_reason_to_fail(targets: list[int]) -> None:
    assert choose_regularisation(np.eye(3, dtype=np.float32), np.asarray(targets), 0) in (UNCHOSEN, *GRID)


@settings(max_examples=15, deadline=None)
@given(targets=st.lists(st.integers(0, 3), min_size=2, max_size=12), balanced=st.booleans())
def test_whatever_the_classes_an_allowed_strength_is_chosen(targets: list[int], balanced: bool) -> None:
    features = np.random.default_rng(1).normal(size=(len(targets), 4))
    assert choose_regularisation(features, np.asarray(targets), 0, balanced=balanced) in (UNCHOSEN, *GRID)
