"""Noise on the texts that are trained on, so that a model learns what stays the same under it.

A text's noise is a function of seed, epoch, row and text alone: a resumed training reads what an uninterrupted one
reads. Validation and test texts pass through here only as what a noisy text must not become. Words are dropped and
representations are mixed later, in the batch, by torch's generator, which is seeded for each step.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tokka.data import normalising
from tokka.data.preparation.prepared import Prepared
from tokka.model.tokenising import Encoded, Ids, TextEncoder
from tokka.sections import Augmentation, Finetuning

# One slip of the fingers in so many characters, at least one in a text.
CHARACTERS_PER_TYPO = 20
# For more epochs than these, looking ahead costs more than an embedding table that is not trimmed.
SCANNED_EPOCHS = 16
ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SIDES = ("text", "text_pair")
# Most weights near 0 or 1: rows that keep a meaning of their own.
MIXUP_CONCENTRATION = 0.4


class AugmentedEpochs:
    """The training texts of every epoch, made when the epoch begins and tokenised at once.

    Args:
        prepared: the splits; only the training texts are changed, in memory.
        encoder: the tokenizer with its truncation.
        params: seed, number of epochs, and the shares.
    """

    def __init__(self, prepared: Prepared, encoder: TextEncoder, params: Finetuning) -> None:
        self._encoder, self._seed, self._epochs = encoder, params.seed, params.epochs
        self._settings = params.augmentation
        sides = [side for side in SIDES if side in prepared.train.column_names]
        self._texts: list[list[str]] = [prepared.train.column(side).to_pylist() for side in sides]
        self._held_out = [held_out_keys(prepared, side) for side in sides]

    def texts(self, epoch: int) -> list[list[str]]:
        """The texts, and for pairs the second texts, as they are read in an epoch, from 0."""
        place = epoch % self._epochs
        return [
            [
                augment(text, self._settings, (self._seed, place, row, side), self._held_out[side])
                for row, text in enumerate(texts)
            ]
            for side, texts in enumerate(self._texts)
        ]

    def encoded(self, epoch: int) -> Encoded:
        """Token ids and types of the training rows in an epoch."""
        return self._encoder.encode(*self.texts(epoch))

    def used_ids(self, vocabulary: int) -> Iterator[Ids]:
        """The token ids that training will read; all of the `vocabulary` when there are too many epochs to look at."""
        if self._epochs > SCANNED_EPOCHS:
            yield np.arange(vocabulary)
            return
        for epoch in range(self._epochs):
            yield np.unique(np.concatenate(self.encoded(epoch).ids))


def changes_texts(settings: Augmentation) -> bool:
    """Whether any share is above zero that touches texts."""
    return max(settings.typos, settings.case) > 0


def held_out_keys(prepared: Prepared, side: str) -> frozenset[str]:
    """The normalised keys of the validation and test texts of one column."""
    tables = (prepared.validation, prepared.test)
    return frozenset(normalising.key(text) for table in tables for text in table.column(side).to_pylist())


def augment(text: str, settings: Augmentation, place: Sequence[int], held_out: frozenset[str] = frozenset()) -> str:
    """The text with its noise: never empty, and never a held-out text that it was not before.

    Args:
        place: seed, epoch, row and side: what the noise depends on beside the text.
        held_out: normalised keys (`normalising.key`) of texts that training must not see.
    """
    generator = np.random.default_rng([*place])
    noisy = make_typos(text, generator) if generator.random() < settings.typos else text
    if generator.random() < settings.case:
        noisy = (noisy.lower(), noisy.upper(), noisy.capitalize())[generator.integers(3)]
    if noisy == text:
        return text
    key = normalising.key(noisy)
    return text if not key or (key in held_out and key != normalising.key(text)) else noisy


def make_typos(text: str, generator: np.random.Generator) -> str:
    """The text with letters swapped, dropped, doubled or replaced by a neighbouring key."""
    characters = list(text)
    for _ in range(max(1, len(text) // CHARACTERS_PER_TYPO)):
        letters = [index for index, character in enumerate(characters) if character.isalpha()]
        if len(letters) > 1:
            _slip(characters, letters[generator.integers(len(letters))], generator)
    return "".join(characters)


def drop_words(mask: Tensor, share: float) -> Tensor:
    """The attention mask (rows, tokens) without that share of the word pieces, each dropped by its own draw.

    A dropped piece is neither attended to nor pooled, and the others keep their places: the text needs no second
    tokenising. A row's first token always stays. Draws from torch's generator, which is seeded for each step.
    """
    if not share:
        return mask
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask * kept


def mixing(rows: int, share: float) -> tuple[float, Tensor] | None:
    """How a batch is mixed: the weight of a row's own representation, and the rows (rows,) that it is mixed with.

    Draws from torch's generator, which is seeded for each step; None for a batch that stays as it is. Representations
    and targets are mixed alike: Manifold Mixup (Verma et al., 2019) at the encoder's output, as in Mixup-Transformer
    (Sun et al., 2020).
    """
    if not share or rows < 2 or float(torch.rand(())) >= share:
        return None
    concentration = torch.tensor(MIXUP_CONCENTRATION)
    weight = torch.distributions.Beta(concentration, concentration).sample()
    return float(weight), torch.randperm(rows)


def _slip(characters: list[str], place: int, generator: np.random.Generator) -> None:
    kind, character = generator.integers(4), characters[place]
    if kind == 0 and place + 1 < len(characters):
        characters[place : place + 2] = characters[place + 1], character
    elif kind == 1:
        del characters[place]
    elif kind == 2:
        characters.insert(place, character)
    else:
        near = _neighbours(character.lower())
        wrong = near[generator.integers(len(near))] if near else character
        characters[place] = wrong.upper() if character.isupper() else wrong


def _neighbours(letter: str) -> str:
    """The keys left and right of a letter on a QWERTY keyboard; none for other scripts."""
    for row in ROWS_OF_KEYS:
        if letter in row:
            place = row.index(letter)
            return row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    return ""
