"""Which test rows a prompted language model is asked about, with which examples, and its answers as scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import TestSet, pairs
from tokka.evaluation.models.prompted import Answers, Endpoint, ask_all
from tokka.params import Params

EXAMPLES = 8
EXAMPLE_CHARACTERS = 500


@dataclass(frozen=True, eq=False)
class Sampled:
    """`rows` are numbers of test rows, in the order asked; `examples` is how many stood in the prompt."""

    rows: Integers
    scores: Floats
    answers: Answers
    examples: int

    @property
    def unreadable(self) -> int:
        """How many answers were no label."""
        return sum(label is None for label in self.answers.labels)


def ask_sample(data: Prepared, test: TestSet, params: Params) -> Sampled:
    """Ask about a seeded sample of evaluation.general.rows test rows.

    TokkaError when the task is a regression, or the endpoint cannot be used.
    """
    general, seed = params.evaluation.general, params.finetuning.seed
    if not test.classification:
        raise TokkaError("a language model is asked for classes only, and this is a regression")
    chosen = np.random.default_rng(seed).permutation(test.rows)[: general.rows]
    shown = examples(data.train, seed)
    questions = [question(test.texts[row], test.pairs[row] if test.pairs else None) for row in chosen]
    answers = ask_all(Endpoint.of(general), questions, data.labels, shown)
    rows = chosen[: len(answers.labels)]
    if not answers.milliseconds:
        raise TokkaError(f"none of {len(rows)} questions was answered")
    scores = _scores(answers.labels, test.target[rows].astype(np.int64), test.classes)
    return Sampled(rows, scores, answers, len(shown))


def examples(train: pa.Table, seed: int) -> list[tuple[str, str]]:
    """A few training rows for the prompt: a seeded choice, as many different labels as fit."""
    texts, seconds, targets = train.column("text").to_pylist(), pairs(train), train.column("target").to_pylist()
    first: dict[str, int] = {}
    for row in np.random.default_rng(seed).permutation(len(texts)):
        first.setdefault(targets[row], int(row))
        if len(first) == EXAMPLES:
            break
    return [
        (question(texts[row][:EXAMPLE_CHARACTERS], seconds[row][:EXAMPLE_CHARACTERS] if seconds else None), label)
        for label, row in first.items()
    ]


def question(text: str, pair: str | None) -> str:
    """What the model reads of one row."""
    if pair is None:
        return text
    return json.dumps({"first": text, "second": pair}, ensure_ascii=False)


def _scores(labels: Sequence[str | None], target: Integers, classes: tuple[str, ...]) -> Floats:
    # A row of zeros would count as the first class, and so be right now and then.
    wrong = (target + 1) % len(classes)
    answered = [wrong[row] if label is None else classes.index(label) for row, label in enumerate(labels)]
    scores = np.zeros((len(labels), len(classes)))
    scores[np.arange(len(labels)), answered] = 1.0
    return scores
