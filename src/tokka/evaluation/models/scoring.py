"""The models that are measured: the candidate, the champion and the general baseline, each on the same test rows."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tokka.data.preparation.prepared import Prepared
from tokka.evaluation.gate.schema import Latency
from tokka.evaluation.metrics import cost, metrics, resampling
from tokka.evaluation.metrics.cost import Footprint
from tokka.evaluation.metrics.intervals import Bounds, bootstrap, mean_interval, share_interval
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import TestSet, pairs, sample_rows
from tokka.evaluation.models import tfidf, zero_shot
from tokka.files import JsonObject
from tokka.model.base import resolve_base, weight_files
from tokka.model.folder import FORM_FILES, Form
from tokka.model.predictor import Predictor, load_predictor
from tokka.params import Params

# Enough texts to warm caches and to average over lengths; the cost of a text does not depend on the other thousands.
PROBE_TEXTS = 256


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A fine-tuned model folder, opened in one of its forms."""

    name: str
    version: str
    folder: Path
    predictor: Predictor
    # What became of its classes since (data.labels); one that is retired keeps its name.
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can answer, as it is called now."""
        return tuple(dict.fromkeys(self._spelled()))

    def _spelled(self) -> list[str]:
        return [self.renamed.get(label) or label for label in self.predictor.labels]

    @property
    def data_digest(self) -> str:
        """The data set that it was trained on."""
        return self.predictor.config.data_digest

    def ask(self, text: str, pair: str | None) -> object:
        """One text, as a server would."""
        return self.predictor.predict([text], None if pair is None else [pair])

    def scores(self, test: TestSet) -> Floats:
        """Every test row's scores over the test's classes.

        TokkaError when a score is not finite, or the model does not take such rows.
        """
        found = self.predictor.predict(test.texts, test.pairs).scores
        metrics.check_scores(found, test.rows, f"the {self.name}")
        return test.align(found, self._spelled())


@dataclass(frozen=True, eq=False)
class Scored:
    """What one model gave on the test rows, and what it cost. `scores` stand over the test's classes."""

    name: str
    version: str
    form: str
    labels: tuple[str, ...]
    data_digest: str
    scores: Floats
    footprint: Footprint
    size_mb: float
    parameters: int
    strategy: str = ""


def open_model(name: str, version: str, folder: Path, form: Form | None = None) -> OpenedModel:
    """Open a model folder in the form that it is served in, or in the form named.

    TokkaError when the folder is damaged or was altered.
    """
    return OpenedModel(name, version, folder, load_predictor(folder, form))


def score(model: OpenedModel, test: TestSet, country: str = "") -> Scored:
    """Predict every test row, and measure the model alone in a process.

    `country`: whose electricity the estimate of energy assumes; empty: no estimate. TokkaError when a score is not
    finite, or the model cannot be measured.
    """
    scores, form = model.scores(test), model.predictor.form
    job = _job("specialist", model.folder, test.texts[:PROBE_TEXTS], test.pairs)
    served = [FORM_FILES[form], "tokenizer.json", "config.json", "tokka.json"]
    return Scored(
        name=model.name,
        version=model.version,
        form=form,
        labels=model.labels,
        data_digest=model.data_digest,
        scores=scores,
        footprint=cost.probe(job | {"form": form, "country": country}),
        size_mb=cost.size_mb([model.folder / name for name in served if (model.folder / name).is_file()]),
        parameters=cost.parameter_count([model.folder / "model.safetensors"]),
        strategy=model.predictor.config.strategy,
    )


def score_base(kind: Literal["general", "tfidf"], test: TestSet, data: Prepared, params: Params, cache: Path) -> Scored:
    """The un-tuned encoder as it is, or a linear model on TF-IDF, in a process of its own.

    TokkaError when the base model is missing, the process failed, or a score is not finite.
    """
    form, most, base = zero_shot.NAMES[data.task], zero_shot.MAXIMUM_NEIGHBOUR_ROWS, resolve_base(params.model, cache)
    if kind == "tfidf":
        form, most = tfidf.NAME, tfidf.MAXIMUM_ROWS
    known = None if kind == "general" and test.classification else _known(data, most, params)
    job = _job(kind, base.path, test.texts, test.pairs) | {"labels": list(data.labels), "known": known}
    job |= {"max_tokens": params.model.max_tokens, "country": params.evaluation.country}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.npy"
        footprint = cost.probe(job, path)
        scores = np.load(path, allow_pickle=False)
    metrics.check_scores(scores, test.rows, f"the {kind} baseline")
    weights = [] if kind == "tfidf" else weight_files(base.path)
    read = [*weights, base.path / "tokenizer.json", base.path / "config.json"] if weights else []
    return Scored(
        name=kind,
        version=base.name if weights else "",
        form=form,
        labels=tuple(data.labels),
        data_digest="",
        scores=test.align(scores, data.labels),
        footprint=footprint,
        size_mb=cost.size_mb(read) + footprint.fitted_mb,
        parameters=cost.parameter_count(weights) + footprint.fitted_parameters,
    )


def summarise(scored: Scored, test: TestSet, latency: Latency, params: Params) -> JsonObject:
    """ModelScores of evaluation.json: every metric with its interval, slices and cost."""
    described = ("name", "version", "form", "data_digest", "size_mb", "parameters", "strategy")
    spent = ("throughput", "memory_mb", "cold_start_s", "cpu_ms")
    return {
        **{name: getattr(scored, name) for name in described},
        **{name: getattr(scored.footprint, name) for name in spent},
        "labels": list(scored.labels),
        "test_digest": test.digest,
        "rows": len(scored.scores),
        "metrics": measure(test, scored.scores, params),
        "slices": slice_metrics(test, scored.scores, params.evaluation.confidence),
        "latency_ms": latency.model_dump(),
    }


def measure(test: TestSet, scores: Floats, params: Params) -> dict[str, dict[str, float]]:
    """Every metric that is defined on these rows, with its bootstrap interval."""
    return bootstrap(resampling.statistics(test.target, scores), test.rows, params)


def slice_metrics(test: TestSet, scores: Floats, confidence: float) -> list[dict[str, object]]:
    """Accuracy (Wilson's interval) or mean absolute error (Student's) of each slice."""

    def measured(rows: Integers) -> Bounds:
        if test.classification:
            right = scores[rows].argmax(axis=1) == test.target[rows]
            return share_interval(int(right.sum()), len(rows), confidence)
        value, low, high = mean_interval(np.abs(scores[rows, 0] - test.target[rows]), confidence)
        return {"value": value, "low": max(low, 0.0), "high": high}

    return [
        {"slice": part.slice, "value": part.value, "rows": len(part.rows), "metric": measured(part.rows)}
        for part in test.slices
    ]


def _job(kind: str, folder: Path, texts: Sequence[str], seconds: Sequence[str] | None) -> dict[str, object]:
    second = list(seconds[: len(texts)]) if seconds is not None else None
    return {"kind": kind, "folder": str(folder), "texts": list(texts), "pairs": second}


def _known(data: Prepared, most: int, params: Params) -> dict[str, object]:
    chosen = data.train.take(sample_rows(data.train.num_rows, most, params.finetuning.seed))
    targets = chosen.column("target").to_pylist()
    return {"texts": chosen.column("text").to_pylist(), "pairs": pairs(chosen), "targets": targets}
