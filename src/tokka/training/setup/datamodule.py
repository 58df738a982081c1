"""Prepared rows as Lightning takes them: tokenised once, padded per batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.model.tokenising import Encoded, TextEncoder
from tokka.sections import Finetuning
from tokka.training.setup.augmentation import AugmentedEpochs
from tokka.training.setup.batches import LengthBatches
from tokka.training.setup.vocabulary import TrimmedVocabulary

Batch = dict[str, Tensor]
# (rows,) class numbers, or values of a regression.
Targets = NDArray[np.int64] | NDArray[np.float32]
# Validation keeps no gradients: larger batches cost no memory.
VALIDATION_BATCH = 128


@dataclass(frozen=True)
class Rows(Encoded):
    """One split: token ids by row, and targets (rows,)."""

    targets: Targets


def read_rows(prepared: Prepared, split: str, encoder: TextEncoder) -> Rows:
    """Tokenise one split and number its targets.

    TokkaError when it is empty, or a target is no known label or no finite number.
    """
    table = prepared.split(split)
    if not table.num_rows:
        raise TokkaError(f"the {split} split is empty", "more data, or a larger preprocessing share of it")
    pairs = table.column("text_pair").to_pylist() if "text_pair" in table.column_names else None
    encoded = encoder.encode(table.column("text").to_pylist(), pairs)
    return Rows(**vars(encoded), targets=_numbers(prepared, split))


def _numbers(prepared: Prepared, split: str) -> Targets:
    targets = prepared.split(split).column("target").to_pylist()
    if prepared.task == "regression":
        values = np.asarray(targets, dtype=np.float32)
        if not np.isfinite(values).all():
            raise TokkaError(f"a target of the {split} split is no finite number", "validate the data again")
        return values
    places = {label: index for index, label in enumerate(prepared.labels)}
    strangers = sorted(set(targets) - set(places))
    if strangers:
        raise TokkaError(f"{split} has the label {strangers[0]!r}, which labels.json lacks", "run preprocess again")
    return np.asarray([places[target] for target in targets], dtype=np.int64)


class PreparedRows(pl.LightningDataModule):  # type: ignore[misc]  # Lightning ships no types that we read
    """Train and validation rows in the numbers of the trimmed vocabulary, batched by length.

    The trainer asks for `train_dataloader` at every epoch, so that the order depends on seed and epoch alone, also
    after a resume. `limit` is the number of batches of an epoch; `noise` gives its texts under augmentation.
    """

    def __init__(
        self, train: Rows, validation: Rows, params: Finetuning, vocabulary: TrimmedVocabulary, *, token_types: bool,
        noise: AugmentedEpochs | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.train = replace(train, ids=vocabulary.translate(train.ids))
        self.validation = replace(validation, ids=vocabulary.translate(validation.ids))
        self.params, self.padding, self.token_types = params, vocabulary.padding, token_types
        self.limit: int | None = None
        self.rank = 0
        self._vocabulary, self._noise, self._present = vocabulary, noise, (-1, self.train)

    def train_rows(self, epoch: int) -> Rows:
        """The training rows as one epoch reads them; the last epoch asked for is kept."""
        if self._noise and self._present[0] != epoch:
            encoded = self._noise.encoded(epoch)
            ids = self._vocabulary.translate(encoded.ids)
            self._present = (epoch, replace(self.train, ids=ids, types=encoded.types))
        return self._present[1]

    def batches(self, epoch: int) -> LengthBatches:
        """The training batches of one epoch."""
        return LengthBatches(
            self.train_rows(epoch).lengths,
            batch_size=self.params.batch_size,
            seed=self.params.seed,
            epoch=epoch,
            limit=self.limit,
            rank=self.rank,
            ranks=self.params.ranks,
        )

    def train_dataloader(self) -> DataLoader[int]:
        """The epoch that the trainer is in."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self._loader(self.train_rows(epoch), self.batches(epoch))

    def val_dataloader(self) -> DataLoader[int]:
        """Validation rows, shortest first."""
        return self.in_order(self.validation)

    def in_order(self, rows: Rows) -> DataLoader[int]:
        """Any rows, shortest first; `order` gives back the rows' own order."""
        order = np.argsort(rows.lengths, kind="stable")
        batches = [order[start : start + VALIDATION_BATCH].tolist() for start in range(0, len(order), VALIDATION_BATCH)]
        return self._loader(rows, batches)

    def collate(self, rows: Rows, numbers: list[int]) -> Batch:
        """A padded batch: input_ids, attention_mask [, token_type_ids] (rows, tokens), target, row (rows,)."""
        inputs = rows.padded(numbers, self.padding, self.token_types)
        batch = {**inputs, "target": rows.targets[numbers], "row": np.asarray(numbers)}
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def _loader(self, rows: Rows, batches: Iterable[list[int]]) -> DataLoader[int]:
        return DataLoader(
            # The numbers of the rows: what a batch holds is looked up when it is put together.
            range(len(rows.ids)),  # type: ignore[arg-type]  # it has what a map-style dataset needs
            batch_sampler=batches,
            collate_fn=lambda numbers: self.collate(rows, numbers),
        )


def inputs_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the network takes of a batch."""
    return {name: value for name, value in batch.items() if name not in {"target", "row"}}
