"""Texts become ids with our own truncation, and [UNK] is counted."""

from pathlib import Path

import numpy as np
import pytest

from tokka.errors import Refused
from tokka.model.tokenising import TextEncoder, pad


@pytest.fixture
def encoder(base: Path) -> TextEncoder:
    return TextEncoder(base / "tokenizer.json", max_tokens=12)


def test_lengths_are_bounded_and_empty_is_fine(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["", "card", "card " * 500, "x" * 2_000_000])
    assert encoded.lengths.tolist() == [2, 3, 12, 12] or encoded.lengths.tolist() == [2, 3, 12, 3]


def test_unknown_share_counts_text_tokens_only(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["card lost", "card 漢", "漢 字", ""])
    assert encoded.unknown.tolist() == [0.0, 0.5, 1.0, 0.0]


def test_pairs_have_types(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["my card"], ["the printer"])
    assert encoded.types[0].tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_padding_and_mask() -> None:
    values, mask = pad([np.asarray([5, 6, 7]), np.asarray([8])], value=9)
    assert values.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_broken_tokenizer_is_refused() -> None:
    with pytest.raises(Refused, match=r"tokenizer\.json"):
        TextEncoder(b"{}", max_tokens=8)
