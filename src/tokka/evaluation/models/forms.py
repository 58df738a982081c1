"""The forms of one model on the same test rows: what a smaller form costs in quality, and what it saves.

The served form is what the gate judges. Another is offered as its own candidate: `tokka run --set export.serve=fp32`
exports the same weights anew, without training, and takes that form through evaluation, gate, register and canary.
The torch form runs only where there is no ONNX: the export refuses a float32 ONNX that differs from it.
"""

from collections.abc import Mapping

import numpy as np

from tokka.evaluation.gate.rules import gated_metric
from tokka.evaluation.metrics import cost, resampling
from tokka.evaluation.metrics.comparison import compare
from tokka.evaluation.metrics.intervals import bootstrap
from tokka.evaluation.metrics.metrics import Floats
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import scoring
from tokka.evaluation.models.scoring import OpenedModel
from tokka.model.folder import FORM_FILES, Form
from tokka.model.profile import describe
from tokka.params import Params

# The one that the others are compared with, and then those that it is compared with.
ORDER: tuple[Form, ...] = ("fp32", "torch", "int8")


def compare_forms(
    candidate: OpenedModel, test: TestSet, known: Mapping[str, Floats], params: Params
) -> dict[str, object] | None:
    """Every form that can run, with quality, size and latency, and int8 against the reference form, paired.

    `candidate`: the model folder, opened in the served form; `known`: scores on the test rows, by form, of the forms
    that were measured before.
    """
    names = runnable(candidate)
    if len(names) < 2:
        return None
    models = {name: _open(candidate, name) for name in names}
    scores = {name: known[name] if name in known else model.scores(test) for name, model in models.items()}
    latencies = cost.latency_in_turns({name: model.ask for name, model in models.items()}, test.texts, test.pairs)
    metric = gated_metric(params, params.task.type)
    return {
        "metric": metric,
        "served": candidate.predictor.form,
        "reference": names[0],
        "profile": describe(params),
        "rows": [
            {
                "form": name,
                "size_mb": cost.size_mb([candidate.folder / FORM_FILES[name]]),
                # The same resamples as everywhere, of the gated metric alone.
                "quality": bootstrap(resampling.statistics(test.target, found, False), test.rows, params)[metric],
                "latency_ms": latencies[name].model_dump(),
                "against": None if name == names[0] else _against(metric, test, found, scores[names[0]], params),
            }
            for name, found in scores.items()
        ],
        "stored_mb": {name: cost.size_mb([candidate.folder / FORM_FILES[name]]) for name in _present(candidate)},
    }


def runnable(candidate: OpenedModel) -> list[Form]:
    """The forms to run, the reference first; torch only where float32 ONNX is missing."""
    found = [name for name in ORDER if name in _present(candidate)]
    return [name for name in found if not (name == "torch" and "fp32" in found and candidate.predictor.form != "torch")]


def _present(candidate: OpenedModel) -> list[Form]:
    return [name for name, file in FORM_FILES.items() if (candidate.folder / file).is_file()]


def _open(candidate: OpenedModel, name: Form) -> OpenedModel:
    if name == candidate.predictor.form:
        return candidate
    return scoring.open_model(name, candidate.version, candidate.folder, name)


def _against(metric: str, test: TestSet, scores: Floats, reference: Floats, params: Params) -> dict[str, object]:
    paired = compare(
        metric,
        test.target,
        scores,
        reference,
        count=params.evaluation.bootstrap,
        confidence=params.evaluation.confidence,
        seed=params.finetuning.seed,
    )
    against: dict[str, object] = paired.model_dump(include={"difference", "low", "high", "p_value"})
    # Largest difference of a probability, or of a value in units of the target's standard deviation.
    against["maximum_difference"] = float(np.abs(scores - reference).max() / test.scale)
    if test.classification:
        against["disagreement"] = float((scores.argmax(axis=1) != reference.argmax(axis=1)).mean())
    return against
