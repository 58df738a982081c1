"""Train on the rows of the embedding table that the texts use, then write them back: exact, and cheaper.

A row that never occurs gets no gradient, and without weight decay on embeddings AdamW leaves it as it was; so a
table of the used rows gives the same weights, without moments for 30,000 rows that never move.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokka.model.tokenising import Ids


class TrimmedVocabulary:
    """The used token ids, whose small table the encoder gets, and the maps between them and their places in it."""

    def __init__(self, encoder: nn.Module, used: Iterable[Ids]) -> None:
        self._full: nn.Embedding = encoder.get_input_embeddings()  # type: ignore[operator]
        self.padding = int(self._full.padding_idx or 0)
        # RoBERTa and its kin count positions by comparing ids with the padding id: it must keep its number.
        kept = np.arange(self.padding + 1)
        self.ids: NDArray[np.int64] = np.unique(np.concatenate([*used, kept]))
        rows = self._full.weight.detach()[torch.from_numpy(self.ids)].clone()
        small = nn.Embedding(rows.shape[0], rows.shape[1], padding_idx=self.padding, _weight=rows)
        small.weight.requires_grad_(self._full.weight.requires_grad)
        encoder.set_input_embeddings(small)  # type: ignore[operator]

    def restore(self, encoder: nn.Module) -> None:
        """Write the small table's rows into the full one and put that back."""
        small: Tensor = encoder.get_input_embeddings().weight.detach()  # type: ignore[operator]
        with torch.no_grad():
            self._full.weight[torch.from_numpy(self.ids)] = small.to(self._full.weight.device)
        encoder.set_input_embeddings(self._full)  # type: ignore[operator]

    def translate(self, rows: list[Ids]) -> list[Ids]:
        """Token ids as places in the small table; every id must be one of the used ones."""
        return [np.searchsorted(self.ids, row) for row in rows]
