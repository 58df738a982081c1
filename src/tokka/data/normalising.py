"""One form for texts that read the same: NFC, no control characters, single spaces."""

import re
import unicodedata

# Line breaks and tabs are white space; what is left of the control and format characters is noise, except the
# joiners that emoji and several scripts need.
WHITE_SPACE = re.compile(r"\s+")
NOISE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
OTHER = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """The text as it is trained on and served; `normalise(normalise(x)) == normalise(x)`."""
    composed = unicodedata.normalize("NFC", NOISE.sub("", WHITE_SPACE.sub(" ", text)))
    return WHITE_SPACE.sub(" ", composed).strip()


def key(text: str) -> str:
    """What decides the split: letters and digits in one case, so that "Hi!" and "hi" fall on the same side."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", normalise(text)).casefold())
    return OTHER.sub(" ", folded).strip() or normalise(text)
