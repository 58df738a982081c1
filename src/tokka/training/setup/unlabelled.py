"""Unlabelled texts as token ids, for the practice before fine-tuning."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tokka import progress
from tokka.data.preparation.prepared import Prepared
from tokka.data.preparation.unlabelled import unlabelled_texts
from tokka.model.tokenising import Ids, TextEncoder
from tokka.params import Params
from tokka.training.setup.vocabulary import TrimmedVocabulary

MASK_TOKENS = ("[MASK]", "<mask>")
SPECIAL_TOKENS = (*MASK_TOKENS, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "<pad>", "<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Unlabelled:
    """Token ids (tokens,) by text; `mask` is [MASK], `special` (some,) ids stand for no word."""

    ids: list[Ids] = field(default_factory=list)
    mask: int | None = None
    special: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def translated(self, vocabulary: TrimmedVocabulary) -> "Unlabelled":
        """The same in the numbers of the trimmed table."""
        mask = None if self.mask is None else int(vocabulary.translate([np.asarray([self.mask])])[0][0])
        return Unlabelled(vocabulary.translate(self.ids), mask, vocabulary.translate([self.special])[0])


def read_unlabelled(prepared: Prepared, params: Params, encoder: TextEncoder, path: Path | None) -> Unlabelled:
    """Tokenise what `adaptation` practises on; nothing when its method is none. Raises what `unlabelled_texts` does."""
    if params.adaptation.method == "none":
        return Unlabelled()
    texts = unlabelled_texts(prepared, params, path)
    progress.report("finetune", f"{len(texts):,} texts without labels to practise on", fraction=0.01)
    special = np.asarray(encoder.token_ids(SPECIAL_TOKENS), dtype=np.int64)
    return Unlabelled(encoder.encode(texts).ids, next(iter(encoder.token_ids(MASK_TOKENS)), None), special)
