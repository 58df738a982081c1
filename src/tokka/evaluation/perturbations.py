"""Changes of a text that leave its meaning: typing slips, case, punctuation, one name for another, a phrase around it.

Kept apart from the augmentation of training: a model that is trained on its own exam would pass it.
"""

import random
import re
from collections.abc import Callable

from tokka.evaluation.behaviour_suite import Invariance

# A slip in a shorter word may make another word of it.
WORD = re.compile(r"[^\W\d_]{4,}")
PUNCTUATION = re.compile(r"[.,!?;:]+(?=\s|$)")
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def change_text(test: Invariance, text: str, source: random.Random) -> str | None:
    """The changed text, or None when this change leaves it as it is."""
    changes: dict[str, Callable[[], str]] = {
        "typos": lambda: typos(text, test.count, source),
        "upper": text.upper,
        "lower": text.lower,
        "punctuation": lambda: punctuation(text),
        "substitute": lambda: substitute(text, test.words, source),
        "prefix": lambda: f"{test.text.strip()} {text}",
        "suffix": lambda: f"{text} {test.text.strip()}",
    }
    changed = changes[test.change]()
    return None if changed == text else changed


def typos(text: str, count: int, source: random.Random) -> str:
    """`count` slips, each in a word of four letters or more and never at its first letter."""
    for _ in range(count):
        words = list(WORD.finditer(text))
        if not words:
            return text
        word = source.choice(words)
        text = text[: word.start()] + _slip(word[0], source) + text[word.end() :]
    return text


def punctuation(text: str) -> str:
    """Without punctuation; a text that has none gets a full stop."""
    return PUNCTUATION.sub("", text).rstrip() if PUNCTUATION.search(text) else f"{text}."


def substitute(text: str, words: tuple[str, ...], source: random.Random) -> str:
    """Every occurrence of one of the words replaced by one other of them."""
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    chosen: dict[str, str] = {}

    def another(found: re.Match[str]) -> str:
        here = found[0].casefold()
        if here not in chosen:
            chosen[here] = source.choice([word for word in words if word.casefold() != here])
        return chosen[here]

    return pattern.sub(another, text)


def _slip(word: str, source: random.Random) -> str:
    place = source.randrange(1, len(word) - 1)
    before, here, after = word[:place], word[place], word[place + 1 :]
    kinds = [before + after, before + here * 2 + after, before + after[0] + here + after[1:]]
    kinds += [before + near + after for near in _neighbours(here)]
    # Swapping two equal letters would be no slip.
    return source.choice([kind for kind in kinds if kind != word])


def _neighbours(letter: str) -> list[str]:
    row = next((row for row in ROWS if letter in row), "")
    place = row.find(letter)
    return [row[near] for near in (place - 1, place + 1) if row and 0 <= near < len(row)]
