"""Every row once per epoch, in an order that seed and epoch decide, with little padding."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.training.setup.batches import LengthBatches

LENGTHS = st.lists(st.integers(2, 128), min_size=1, max_size=400).map(np.asarray)


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, batch_size=st.integers(1, 64), seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_each_row_exactly_once(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    batches = list(LengthBatches(lengths, batch_size=batch_size, seed=seed, epoch=epoch))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == len(LengthBatches(lengths, batch_size=batch_size, seed=seed, epoch=epoch))


@settings(deadline=None, max_examples=30)
@given(lengths=LENGTHS, seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_same_seed_and_epoch_same_order(lengths: np.ndarray, seed: int, epoch: int) -> None:
    first = list(LengthBatches(lengths, batch_size=8, seed=seed, epoch=epoch))
    assert first == list(LengthBatches(lengths, batch_size=8, seed=seed, epoch=epoch))


@settings(deadline=None, max_examples=30)
@given(lengths=LENGTHS, limit=st.integers(1, 20))
def test_a_limited_epoch_is_the_start_of_the_whole_one(lengths: np.ndarray, limit: int) -> None:
    whole = list(LengthBatches(lengths, batch_size=8, seed=1))
    part = LengthBatches(lengths, batch_size=8, seed=1, limit=limit)
    assert list(part) == whole[:limit]
    assert len(part) == len(list(part))


def test_epochs_and_seeds_differ() -> None:
    lengths = np.arange(2, 202)
    orders = [list(LengthBatches(lengths, batch_size=8, seed=s, epoch=e)) for s, e in [(0, 0), (0, 1), (1, 0)]]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_little_of_an_epoch_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 60, size=4000)
    batches = LengthBatches(lengths, batch_size=64, seed=0)
    assert batches.tokens() < 1.05 * lengths.sum()
