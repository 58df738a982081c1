"""One form for texts that read the same: NFC, no control characters, single spaces."""

import re
import unicodedata

# Line breaks and tabs are white space; what is left of the control and format characters is noise, except the
# joiners that emoji and several scripts need.
WHITE_SPACE = re.compile(r"\s+")
NOISE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
OTHER = re.compile(r"[\W_]+")
JOINERS = re.compile("[\u200c\u200d]")
# They choose how a character is drawn, such as an emoji in colour, and not which one it is.
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")
TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def normalise(text: str) -> str:
    """The text as it is trained on and served; `normalise(normalise(x)) == normalise(x)`."""
    composed = unicodedata.normalize("NFC", NOISE.sub("", WHITE_SPACE.sub(" ", text)))
    return WHITE_SPACE.sub(" ", composed).strip()


def label(word: str) -> str:
    """A class, a group or a slice in the one form that is counted, whichever file it stands in.

    Normalised as texts are; a truth value in small letters, as JSON writes it; a whole number without `.0`, which
    data-frame libraries write as soon as one cell of the column is empty.
    """
    clean = normalise(word)
    whole = WHOLE.fullmatch(clean)
    return whole[1] if whole else TRUTHS.get(clean, clean)


def key(text: str) -> str:
    """What decides the split: letters and digits in one case, so that "Hi!" and "hi" fall on the same side.

    A combining mark belongs to its letter: without vowel signs, words of Hindi or Thai would become others.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", normalise(text)).casefold())
    return WHITE_SPACE.sub(" ", OTHER.sub(_gap, SELECTORS.sub("", JOINERS.sub("", folded)))).strip() or normalise(text)


def _gap(run: re.Match[str]) -> str:
    if run[0].isascii():
        return " "
    return "".join(sign if unicodedata.category(sign) in ("Mn", "Mc") else " " for sign in run[0])
