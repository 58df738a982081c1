"""The simple ways, which a fine-tuned model has to beat to be worth its training: a linear head, and TF-IDF.

The linear head (linear probing; Alain and Bengio, 2016) is the strategy `frozen`: trained, exported and served as every
model is, in the form that the candidate is served in, so that quality and prices compare like with like.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tokka.data.preparation.prepared import Prepared
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import learning_curve, scoring
from tokka.evaluation.models.scoring import Scored
from tokka.params import Params
from tokka.sections import Adaptation
from tokka.settings import Settings

Simple = Literal["linear", "tfidf"]
SIMPLE: tuple[Simple, ...] = ("linear", "tfidf")
TITLES: dict[Simple, str] = {
    "linear": "Simple: linear head on the un-tuned encoder",
    "tfidf": "Simple: linear model on TF-IDF, without a language model",
}


def score_simple(name: Simple, test: TestSet, data: Prepared, params: Params, cache: Path) -> Scored:
    """One simple way, fitted on the training rows, on every test row; TokkaError when it cannot be measured."""
    if name == "tfidf":
        return scoring.score_base("tfidf", test, data, params, cache)
    from tokka.training.finetuning import finetune_step

    finetuning = params.finetuning.model_copy(update={"strategy": "frozen"})
    frozen = params.model_copy(update={"finetuning": finetuning, "adaptation": Adaptation()})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        outcome = finetune_step(data.folder, frozen, Settings.from_environment(), out, data.digest)
        found = scoring.score(scoring.open_model("linear", "", out), test, params.evaluation.country)
    return replace(found, footprint=replace(found.footprint, fit_cpu_seconds=learning_curve.spent({**outcome})))
