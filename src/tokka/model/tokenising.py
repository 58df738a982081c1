"""Texts to token ids, the same way in training and in serving.

Uses the `tokenizers` library alone: no torch, no transformers, so that a server starts quickly.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokka.errors import Refused

# No tokenizer needs more letters for one token of real language; longer texts are cut before they cost anything.
CHARACTERS_PER_TOKEN = 48
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Token ids by row, unpadded, and what is known about them.

    ids, types: one array (tokens,) per row; types tell the first text (0) from the second (1).
    unknown: (rows,) share of [UNK] among the tokens that stand for text.
    """

    ids: list[Ids]
    types: list[Ids]
    unknown: NDArray[np.float64]

    @property
    def lengths(self) -> Ids:
        """(rows,) tokens, with the special ones."""
        return np.fromiter((len(row) for row in self.ids), dtype=np.int64, count=len(self.ids))

    def padded(self, rows: Sequence[int] | Ids, padding: int, token_types: bool) -> dict[str, Ids]:
        """What the network takes of these rows: input_ids, attention_mask [, token_type_ids], (rows, longest)."""
        ids, mask = pad([self.ids[row] for row in rows], padding)
        types = {"token_type_ids": pad([self.types[row] for row in rows])[0]} if token_types else {}
        return {"input_ids": ids, "attention_mask": mask, **types}

    def by_row(self) -> "list[Encoded]":
        """Each row for itself."""
        rows = zip(self.ids, self.types, range(len(self.ids)), strict=True)
        return [Encoded([ids], [types], self.unknown[row : row + 1]) for ids, types, row in rows]

    @classmethod
    def join(cls, parts: "Sequence[Encoded]") -> "Encoded":
        """The rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        ids, types = ([row for part in parts for row in getattr(part, name)] for name in ("ids", "types"))
        return cls(ids, types, np.concatenate([part.unknown for part in parts]) if parts else np.empty(0))


@dataclass(frozen=True)
class Coverage:
    """How much of some texts a tokenizer knows: shares of their tokens ([UNK]) and of their bytes without spaces."""

    texts: int
    unknown: float
    lost: float


class TextEncoder:
    """A tokenizer.json with our own truncation and no padding, whatever the file itself asks for."""

    def __init__(self, source: Path | bytes, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        content = source.read_bytes() if isinstance(source, Path) else source
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the binding raises plain Exception
            raise Refused(f"tokenizer.json cannot be read: {str(error)[:160]}", "use another base model") from None
        self._tokenizer.enable_truncation(max_length=max_tokens, strategy="longest_first")
        self._tokenizer.no_padding()
        self._unknown = self._tokenizer.token_to_id("[UNK]")
        if self._unknown is None:
            self._unknown = self._tokenizer.token_to_id("<unk>")
        self._characters = CHARACTERS_PER_TOKEN * max_tokens

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encoded:
        """Tokenise texts, or texts with their pairs; longer ones are cut to `max_tokens`."""
        cut = [text[: self._characters] for text in texts]
        rows = cut if pairs is None else list(zip(cut, (text[: self._characters] for text in pairs), strict=True))
        found = self._tokenizer.encode_batch(rows)
        ids = [np.asarray(row.ids, dtype=np.int64) for row in found]
        types = [np.asarray(row.type_ids, dtype=np.int64) for row in found]
        special = [np.asarray(row.special_tokens_mask, dtype=bool) for row in found]
        return Encoded(ids, types, np.asarray(list(map(self._unknown_share, ids, special)), dtype=np.float64))

    def coverage(self, texts: Sequence[str]) -> Coverage:
        """What of these texts stands for nothing the model knows; of a longer one only what fits is looked at.

        Bytes are lost where no token but [UNK] stands, and where a combining mark is dropped that cannot be written
        together with its letter: in scripts such as Devanagari or Thai the mark is a vowel.
        """
        unknown = tokens = lost = read = 0
        found = self._tokenizer.encode_batch([text[: self._characters] for text in texts])
        for text, row in zip(texts, found, strict=True):
            words = [
                (number == self._unknown, span)
                for number, special, span in zip(row.ids, row.special_tokens_mask, row.offsets, strict=True)
                if not special or number == self._unknown
            ]
            end = max((span[1] for _, span in words), default=0) if row.overflowing else len(text)
            known = {place for bad, span in words if not bad for place in range(*span)}
            letters = [(place, letter) for place, letter in enumerate(text[:end]) if not letter.isspace()]
            unknown, tokens = unknown + sum(bad for bad, _ in words), tokens + len(words)
            read += sum(_bytes(letter) for _, letter in letters)
            lost += sum(_bytes(letter) for place, letter in letters if place not in known and not _is_mark(letter))
            lost += self._dropped_marks(text[:end])
        return Coverage(len(texts), unknown / tokens if tokens else 0.0, lost / read if read else 0.0)

    def _dropped_marks(self, text: str) -> int:
        """Bytes of the combining marks that normalising drops."""
        normalizer = self._tokenizer.normalizer
        before, after = text, normalizer.normalize_str(text) if normalizer else text
        counts = [
            sum(_bytes(letter) for letter in unicodedata.normalize("NFC", side) if _is_mark(letter))
            for side in (before, after)
        ]
        return max(0, counts[0] - counts[1])

    def token_ids(self, names: Sequence[str]) -> list[int]:
        """The ids of those of these tokens that the vocabulary has, in their order."""
        found = (self._tokenizer.token_to_id(name) for name in names)
        return [int(number) for number in found if number is not None]

    def _unknown_share(self, ids: Ids, special: NDArray[np.bool_]) -> float:
        # [UNK] itself is listed among the special tokens of some tokenizers: count it by its id.
        unknown = ids == self._unknown
        words = int((~special | unknown).sum())
        return int(unknown.sum()) / words if words else 0.0


def _bytes(letter: str) -> int:
    return len(letter.encode(errors="replace"))


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter) == "Mn"


def pad(rows: Sequence[Ids], value: int = 0) -> tuple[Ids, Ids]:
    """Stack rows of different lengths: (rows, longest) values and the attention mask of the same shape."""
    lengths = [len(row) for row in rows]
    values = np.full((len(rows), max(lengths, default=0)), value, dtype=np.int64)
    mask = np.zeros_like(values)
    for index, row in enumerate(rows):
        values[index, : lengths[index]] = row
        mask[index, : lengths[index]] = 1
    return values, mask
