"""Normalised texts: normalising twice changes nothing, and what reads alike counts as one."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.data import normalising


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalising.normalise(normalising.normalise(text)) == normalising.normalise(text)
    assert normalising.key(normalising.normalise(text)) == normalising.key(text)
    assert normalising.label(normalising.label(text)) == normalising.label(text)


@given(st.text(max_size=60))
def test_composed_and_decomposed_spellings_are_one(text: str) -> None:
    spellings = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    for form in (normalising.normalise, normalising.key, normalising.label):
        assert len(set(map(form, spellings))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("की", "का"), ("มี", "มา"), ("दिन", "दान"), ("କି", "କା"), ("தி", "தீ"), ("কি", "কী"), ("ខ្មែរ", "ខមរ"), ("كَتَبَ", "كُتِبَ")],
)
def test_vowel_signs_are_part_of_a_word(one: str, other: str) -> None:
    assert normalising.key(one) != normalising.key(other)
    assert " " not in normalising.key(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hi!", "hi"), ("STRASSE", "straße"), ("in\u00adter\u200bnal", "internal"),
        ("\u0646\u0645\u06cc\u200c\u062f", "\u0646\u0645\u06cc\u062f"),
        ("❤\ufe0f ok", "❤ ok"), ("\ufb01ne", "fine"), ("\uff21\uff11", "a1"), ("a_b", "a b"), ("\ufeffhello", "hello"),
    ],
)  # fmt: skip
def test_texts_that_read_alike_fall_on_one_side(one: str, other: str) -> None:
    assert normalising.key(one) == normalising.key(other)


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("True", "true"), ("FALSE", "false"), ("12.0", "12"), ("-3.00", "-3"), ("1.5", "1.5"), ("1.10", "1.10"),
        ("007", "007"), (" a  b\u200b ", "a b"), ("Gera\u0308t", "Gerät"), ("no", "no"), ("v2.0", "v2.0"),
    ],
)  # fmt: skip
def test_the_one_form_of_a_label(word: str, form: str) -> None:
    assert normalising.label(word) == form
