"""What a tokenizer cannot read is counted in tokens and bytes, in scripts that it knows and in others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tests.fixtures.tiny_model import make_tiny_base
from tokka.model.tokenising import TextEncoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(make_tiny_base(tmp_path_factory.mktemp("base")) / "tokenizer.json", 64)


@pytest.mark.parametrize(
    ("text", "unknown", "lost"),
    [
        ("where is my card?", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("电池不耐用", 1.0, 1.0),
        ("my card 电池", 0.5, 6 / 12),
        ("card " * 3000, 0.0, 0.0),
    ],
)
def test_shares_of_tokens_and_bytes(encoder: TextEncoder, text: str, unknown: float, lost: float) -> None:
    found = encoder.coverage([text])
    assert (found.texts, found.unknown, found.lost) == (1, pytest.approx(unknown), pytest.approx(lost))


def test_a_vowel_that_is_a_combining_mark_is_lost_when_accents_are_stripped(tmp_path: Path) -> None:
    """BERT's uncased normaliser drops every combining mark: an accent of é, and the vowels of Devanagari."""
    letters = {"[UNK]": 0, "e": 1, **{letter: place for place, letter in enumerate("नमसतहद", start=2)}}
    letters |= {f"##{letter}": len(letters) + place for place, letter in enumerate([*letters][1:])}
    tokenizer = Tokenizer(models.WordPiece(letters, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path / "tokenizer.json", 64)
    assert encoder.coverage(["é"]).lost == 0.0
    assert encoder.coverage(["नमस्ते"]).lost == pytest.approx(2 / 6)


@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_shares_are_shares_whatever_the_text(texts: list[str], encoder: TextEncoder) -> None:
    found = encoder.coverage(texts)
    assert 0.0 <= found.unknown <= 1.0
    assert 0.0 <= found.lost <= 1.0
