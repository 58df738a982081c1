"""Noise on the texts that are trained on, so that a model learns what stays the same under it.

A text's noise is a function of seed, epoch, row and text alone: a resumed training reads what an uninterrupted one
reads. Words are dropped and representations mixed later, in the batch, by torch's generator, seeded for each step; so
is dropout within the network.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tokka.data import normalising
from tokka.data.preparation.prepared import Prepared
from tokka.model.tokenising import Encoded, Ids, TextEncoder
from tokka.sections import Augmentation, Finetuning
from tokka.training.setup.precision import choose_device

# One slip of the fingers in so many characters, at least one in a text.
CHARACTERS_PER_TYPO = 20
# For more epochs than these, looking ahead costs more than an embedding table that is not trimmed.
SCANNED_EPOCHS = 16
ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# The keys left and right of a letter; none for other scripts.
NEIGHBOURS = {row[i]: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in ROWS_OF_KEYS for i in range(len(row))}
SIDES = ("text", "text_pair")
# Most weights near 0 or 1: rows that keep a meaning of their own.
MIXUP_CONCENTRATION = 0.4
# Dropout draws 16 bits for each place: a rate is kept to 1 in 65,536.
DRAWS = 1 << 16


class AugmentedEpochs:
    """The training texts of every epoch, made when the epoch begins and tokenised at once."""

    def __init__(self, prepared: Prepared, encoder: TextEncoder, params: Finetuning) -> None:
        self._encoder, self._seed, self._epochs = encoder, params.seed, params.epochs
        self._settings = params.augmentation
        sides = [side for side in SIDES if side in prepared.train.column_names]
        self._texts: list[list[str]] = [prepared.train.column(side).to_pylist() for side in sides]
        tables = (prepared.validation, prepared.test)
        held_out = [[text for table in tables for text in table.column(side).to_pylist()] for side in sides]
        self._held_out = [frozenset(map(normalising.key, texts)) for texts in held_out]

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


def augment(text: str, settings: Augmentation, place: Sequence[int], held_out: frozenset[str] = frozenset()) -> str:
    """The text with its noise: never empty, and never a held-out text that it was not before.

    `place` (seed, epoch, row, side) is what the noise depends on beside the text; `held_out` are normalised keys.
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
    """The attention mask (rows, tokens) without that share of the word pieces; a row's first token always stays.

    A dropped piece is neither attended to nor pooled, and the others keep their places: no second tokenising.
    """
    if not share:
        return mask
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask * kept


def mixing(rows: int, share: float) -> tuple[float, Tensor] | None:
    """How a batch is mixed, or None: the weight of a row's own representation, and its partners (rows,).

    Representations and targets are mixed alike: Manifold Mixup (Verma et al., 2019) at the encoder's output, as in
    Mixup-Transformer (Sun et al., 2020).
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
        near = NEIGHBOURS.get(character.lower(), "")
        wrong = near[generator.integers(len(near))] if near else character
        characters[place] = wrong.upper() if character.isupper() else wrong


class QuickDropout(TorchFunctionMode):
    """Within it, every `functional.dropout`, also a module's, takes its mask from SFC64 (Doty-Humphrey, 2010).

    torch draws a mask on a processor one number after the other, which is nearly half of a small encoder's step.
    Each mask is seeded by one draw of torch's generator, so that who seeds that one repeats the mask.
    """

    # torch's own signature; what it passes is whatever the function takes.
    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Call `func`, or what stands in the place of dropout."""
        return (quick_dropout if func is functional.dropout else func)(*args, **(kwargs or {}))


def quick_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`functional.dropout`, with its signature; never in place."""
    dropped = round(p * DRAWS)
    if not training or not dropped:
        return input
    if dropped >= DRAWS:
        return input * 0.0
    generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))
    # Signed, which torch compares by; the lowest values are the dropped ones.
    draws = generator.integers(-DRAWS // 2, DRAWS // 2, input.numel(), dtype=np.int16)
    kept = torch.from_numpy(draws).view(input.shape) >= dropped - DRAWS // 2
    return input * kept.to(input.dtype).mul_(DRAWS / (DRAWS - dropped))


def training_dropout(compiled: bool = False) -> AbstractContextManager[object]:
    """The dropout of a training step: the quick one on a processor, unless torch compiles the step with its own."""
    return nullcontext() if compiled or choose_device() == "cuda" else QuickDropout()
