"""Few labelled rows: fewer steps can be trusted, and the names of the classes are worth a row each.

With tens of rows a class, full fine-tuning moves the encoder further than the rows support, and loses to a linear head
on frozen features. The strategy `contrastive` moves it less: pairs of a class are drawn together (supervised
contrastive loss; Khosla et al., 2020; SetFit also has pairs; Tunstall et al., 2022), what was learned is averaged with
the weights before (Wortsman et al., 2022), and the head is fitted anew.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tokka.params import Params
from tokka.sections import Finetuning

if TYPE_CHECKING:
    from tokka.model.tokenising import Encoded, TextEncoder
    from tokka.training.setup.datamodule import Rows, Targets

# Below so many training rows a class, or in all, `auto` takes the contrastive strategy.
ROWS_A_CLASS, ROWS = 50, 1500
# Against the value of params.yaml: fewer steps at a lower learning rate are what these rows support.
RATE = 2 / 3
# How much of what the contrastive strategy learned is kept; the rest of each weight is the base model's.
LEARNED = 0.5
# A name of fewer letters, such as c7, says nothing.
LEAST_LETTERS = 3


def is_few(rows: int, classes: int) -> bool:
    """Whether so many training rows are few for so many classes; never for a regression, which has no pairs."""
    return classes > 0 and (rows < ROWS_A_CLASS * classes or rows < ROWS)


def resolved(params: Finetuning, rows: int, classes: int) -> Finetuning:
    """The params with the strategy that `auto` stands for, and gentler steps where that is the contrastive one."""
    if params.strategy != "auto":
        return params
    if not is_few(rows, classes):
        return params.model_copy(update={"strategy": "full"})
    rate = params.learning_rate if params.learning_rate == "auto" else RATE * params.learning_rate
    return params.model_copy(update={"strategy": "contrastive", "learning_rate": rate})


def label_words(label: str) -> str:
    """A label's name as words: "cardArrival_late" becomes "card arrival late"; a name without letters stays."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label)
    return re.sub(r"[\W_]+", " ", spaced).strip().lower() or label


def with_names(train: "Rows", labels: Sequence[str], params: Params, encoder: "TextEncoder") -> "Rows":
    """The training rows and, of few rows, each class's name as a row more, where every class has a name of letters."""
    words = [label_words(label) for label in labels]
    single = params.task.text_pair is None and params.finetuning.strategy in ("contrastive", "frozen")
    told = all(sum(map(str.isalpha, one)) >= LEAST_LETTERS for one in words)
    if not (single and told and is_few(len(train.ids), len(labels))):
        return train
    return joined(train, encoder.encode(words), np.arange(len(labels)))


def joined(rows: "Rows", more: "Encoded", targets: "Targets") -> "Rows":
    """The rows and, after them, more with their targets (rows,)."""
    return replace(
        rows,
        ids=[*rows.ids, *more.ids],
        types=[*rows.types, *more.types],
        unknown=np.concatenate([rows.unknown, more.unknown]),
        targets=np.concatenate([rows.targets, targets]),
    )
