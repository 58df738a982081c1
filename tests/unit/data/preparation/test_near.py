"""Near-duplicates: the index proposes what comparing all pairs finds, and the exact similarity decides."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.corpus import words
from tokka.data import normalising
from tokka.data.preparation import near


def alike(count: int, seed: int) -> list[str]:
    """Different keys, of which many differ in a letter or a word from another one."""
    generator, made = random.Random(seed), list[str]()
    for _ in range(count):
        text = " ".join(
            generator.choices(["card", "lost", "payment", "späte", "refund", "ok"], k=generator.randint(1, 9))
        )
        made.append(
            generator.choice(made) + generator.choice(["s", " x", "12"]) if made and generator.random() < 0.5 else text
        )
    return list(dict.fromkeys(made))


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_what_is_near_is_what_comparing_all_pairs_finds(threshold: float) -> None:
    keys = alike(600, 1)
    sketcher, index = near.Sketcher(threshold), near.Index(threshold)
    for start in (0, 100):
        index.add(keys[start : start + 100], sketcher.sketch(keys[start : start + 100]))
    found = index.near(keys, sketcher.sketch(keys)).tolist()
    held = [near.shingles(key) for key in keys[:200]]
    wanted = [max(near.similarity(near.shingles(key), other) for other in held) >= threshold for key in keys]
    assert found == wanted
    assert 200 < sum(found) < len(keys)


@given(st.lists(words, min_size=1, max_size=20))
def test_a_key_is_near_itself_and_without_a_threshold_nothing_else(texts: list[str]) -> None:
    keys = sorted({normalising.key(text) for text in texts})
    for threshold in (0.9, None):
        sketcher, index = near.Sketcher(threshold), near.Index(threshold)
        index.add(keys[::2], sketcher.sketch(keys[::2]))
        found = index.near(keys, sketcher.sketch(keys))
        assert found[::2].all()
        assert threshold or not found[1::2].any()


def test_an_empty_index_holds_nothing() -> None:
    assert not near.Index(0.9).near(["a"], near.Sketcher(0.9).sketch(["a"])).any()
    assert near.Sketcher(0.9).sketch([]).bands.shape == (0, 10)


def test_pairs_come_most_similar_first_and_equal_texts_are_pairs() -> None:
    found = near.near_pairs(["Hi there, you", "lost card", "hi there you!", "hi there your"], 0.5)
    assert [(first, second) for first, second, _ in found] == [(0, 2), (0, 3), (2, 3)]
    assert found[0][2] == 1.0 > found[1][2]
