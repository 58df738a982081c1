"""Which test rows a prompted language model is asked about, with which examples, and its answers as scores.

asked = ask_sample(data, test, params)
asked.scores            # (rows, classes): one where it answered; an unreadable answer stands on a wrong class
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation.metrics.cost import Latency, summarise
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import TestSet, pairs
from tokka.evaluation.models.prompted import Endpoint, ask_all
from tokka.params import Params

EXAMPLES = 8
EXAMPLE_CHARACTERS = 500


@dataclass(frozen=True, eq=False)
class Sampled:
    """`rows` are numbers of test rows, in the order asked; tokens are means of one prediction."""

    rows: Integers
    scores: Floats
    latency: Latency | None
    input_tokens: float | None
    output_tokens: float | None
    unreadable: int
    failed: int
    examples: int


def ask_sample(data: Prepared, test: TestSet, params: Params) -> Sampled:
    """Ask about a seeded sample of evaluation.general.rows test rows.

    Raises:
        TokkaError: the task is a regression, or the endpoint cannot be used.
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
    return Sampled(
        rows=rows,
        scores=_scores(answers.labels, test.target[rows].astype(np.int64), test.classes),
        latency=summarise(answers.milliseconds),
        input_tokens=answers.input_tokens,
        output_tokens=answers.output_tokens,
        unreadable=sum(label is None for label in answers.labels),
        failed=answers.failed,
        examples=len(shown),
    )


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
