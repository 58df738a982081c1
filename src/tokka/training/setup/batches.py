"""Which rows form a batch: texts of like length together, so that little of a batch is padding."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from tokka.model.tokenising import Ids

# Rows are sorted by length within this many batches: nearly no padding, and still well mixed.
BUCKET_BATCHES = 50


class LengthBatches(Sampler[list[int]]):
    """Batches of row numbers for one epoch; each row exactly once, in an order that seed and epoch decide.

    `lengths` (rows,) in tokens; `limit` yields only so many batches, when the time budget says so; process `rank` of
    `ranks` takes its part of every batch.
    """

    def __init__(
        self,
        lengths: Ids,
        *,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        limit: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.limit = limit
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        full = -(-len(self.lengths) // self.batch_size)
        return full if self.limit is None else min(full, self.limit)

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(self._all_batches(np.random.default_rng([self.seed, self.epoch])))
        for index in np.random.default_rng([self.seed, self.epoch, 1]).permutation(len(batches))[: len(self)]:
            batch = batches[index]
            # A batch with fewer rows than there are processes: one without a row would keep the others waiting.
            part = batch[self.rank :: self.ranks]
            yield (part if len(part) else batch[:1]).tolist()

    def tokens(self) -> int:
        """Tokens of one whole epoch, padding included."""
        batches = self._all_batches(np.random.default_rng([self.seed, self.epoch]))
        return int(sum(len(batch) * self.lengths[batch].max() for batch in batches))

    def _all_batches(self, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        order = generator.permutation(len(self.lengths))
        bucket = self.batch_size * BUCKET_BATCHES
        for start in range(0, len(order), bucket):
            rows = order[start : start + bucket]
            ordered = rows[np.argsort(self.lengths[rows], kind="stable")]
            for first in range(0, len(ordered), self.batch_size):
                yield ordered[first : first + self.batch_size]
