"""Can the base model read the language of the texts? Asked before anything is trained.

A tokenizer that does not know a script gives every word the same token, and a specialist learns next to nothing from it
while its figures may still look fair.
"""

from tokka import progress
from tokka.data.reading import sample_texts
from tokka.errors import TokkaError
from tokka.model.base import resolve_base
from tokka.model.tokenising import TextEncoder
from tokka.params import Params
from tokka.settings import Settings

SAMPLED_TEXTS, READ_TOKENS = 1000, 512
# From this share on it is worth a word.
WORTH_A_WORD = 0.05


def readable(params: Params, settings: Settings) -> str:
    """How much of a sample of the texts the base model's tokenizer knows, in words.

    TokkaError when more than model.maximum_unknown of the tokens are unknown, or of the bytes are lost.
    """
    try:
        texts = sample_texts(params, settings, SAMPLED_TEXTS)
    except TokkaError as error:
        return f"not looked at, for the data cannot be read: {error.message}"  # validate_data says all of it
    base, limit = resolve_base(params.model, settings.home / "base"), params.model.maximum_unknown
    seen = TextEncoder(base.path / "tokenizer.json", READ_TOKENS).coverage(texts)
    found = f"{seen.unknown:.1%} of the tokens of {seen.texts} texts are unknown to {base.name}, {seen.lost:.1%} of "
    found += "their bytes are lost"
    if max(seen.unknown, seen.lost) > limit:
        raise TokkaError(
            f"{found}; model.maximum_unknown allows {limit:.0%}",
            "choose a model.base that reads this language, such as a multilingual one; to go on all the same, raise "
            "model.maximum_unknown, and compare with the row of TF-IDF in the report",
        )
    if max(seen.unknown, seen.lost) <= WORTH_A_WORD:
        return found
    progress.report("preflight", f"warning: {found}")
    return f"warning: {found}; a model.base that reads more of them may do better"
