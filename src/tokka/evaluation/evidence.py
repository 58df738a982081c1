"""The evidence folder: what was measured, in the forms that the gate, Kubeflow, drift watching and people read.

| File                | For                                                                              |
|---------------------|----------------------------------------------------------------------------------|
| evaluation.json     | the gate, the registry: every figure that decides                                |
| details.json        | the report: per class, calibration, confusions, what was measured where          |
| report.html         | people                                                                           |
| scores.npz          | what is measured later: every model's scores on every test row                  |
| predictions.parquet | every test row with every model's answer                                         |
| reference.parquet   | drift: held-out validation rows with prediction, confidence, length, embedding   |
| replay.parquet      | replayed traffic: test rows with their truth                                     |
| confusion.json, roc.json | Kubeflow's pages                                                            |
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files
from tokka.data.preparation.prepared import Prepared
from tokka.evaluation.gate.gate import decide
from tokka.evaluation.metrics import cost, curves, metrics, resampling, temperature
from tokka.evaluation.metrics.intervals import intervals
from tokka.evaluation.metrics.test_set import TestSet, pairs
from tokka.evaluation.models.scoring import OpenedModel, Scored
from tokka.evaluation.report.report import render
from tokka.model.predictor import Predictor
from tokka.params import Params

SCORES = "scores.npz"


def write(
    out: Path,
    evaluation: Mapping[str, Any],
    data: Prepared,
    test: TestSet,
    scored: Mapping[str, Scored],
    candidate: OpenedModel,
    params: Params,
    more: Mapping[str, Any],
    *,
    seconds: float,
) -> None:
    """Write every file; evaluation.json comes last, so that a folder that has it is whole. `more` joins the details."""
    out.mkdir(parents=True, exist_ok=True)
    found = details(data, test, scored, candidate, params) | dict(more) | {"seconds": round(seconds, 2)}
    pq.write_table(predictions(test, scored), out / "predictions.parquet")
    pq.write_table(reference(data.validation, candidate.predictor), out / "reference.parquet")
    pq.write_table(replay(test), out / "replay.parquet")
    arrays: dict[str, Any] = {name: part.scores for name, part in scored.items()}
    np.savez_compressed(out / SCORES, **arrays)
    files.write_json(out / "confusion.json", found["confusion"])
    files.write_json(out / "roc.json", found["roc"])
    write_page(out, evaluation, found, params)
    files.write_json(out / "evaluation.json", evaluation)


def write_page(out: Path, evaluation: Mapping[str, Any], found: Mapping[str, Any], params: Params) -> None:
    """The page and, last, the details that it shows."""
    files.write_text(out / "report.html", render(evaluation, found, decide(evaluation, params).as_dict()))
    files.write_json(out / "details.json", found)


def details(
    data: Prepared, test: TestSet, scored: Mapping[str, Scored], candidate: OpenedModel, params: Params
) -> dict[str, Any]:
    """What the report shows and no rule reads, as far as it follows from the scores."""
    scores = scored["candidate"].scores
    found: dict[str, Any] = {
        "model": params.registry.model,
        "base": params.model.base,
        "data": {"rows": data.summary.get("rows", {}), "labels": len(data.labels)},
        "machine": cost.environment_note(),
        "bootstrap": params.evaluation.bootstrap,
        "confidence": params.evaluation.confidence,
        "alpha": params.gate.alpha,
        "confusion": {"labels": [], "matrix": []},
        "roc": {"fpr": [], "tpr": [], "threshold": []},
    }
    if not test.classification:
        return found | {"residuals": curves.residuals(test, scores[:, 0], params.finetuning.seed)}
    target = test.target.astype(np.int64)
    return found | {
        "confusion": curves.confusion(target, scores.argmax(axis=1), test.classes),
        "roc": curves.roc(target, scores),
        "confused": curves.confused(test, scores),
        "per_class": per_class(target, scores.argmax(axis=1), test.classes, params),
        "calibration": {name: metrics.calibration(target, part.scores) for name, part in scored.items()},
        "temperature": temperature.before_and_after(target, scores, candidate.predictor.config.temperature, params),
    }


def per_class(
    target: metrics.Integers, predicted: metrics.Integers, labels: tuple[str, ...], params: Params
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and rows of every class that occurs in the target, worst F1 first.

    `intervals: {name: {value, low, high}}` has the bootstrap interval of each of the first three.
    """
    settings, statistics = params.evaluation, resampling.class_statistics(target, predicted)
    drawn = resampling.draw(statistics, len(target), settings.bootstrap, params.finetuning.seed)
    once = statistics(np.ones((1, len(target))))
    rows = []
    for place, number in enumerate(np.unique(target)):
        values = {name: float(once[name][0, place]) for name in ("precision", "recall", "f1")}
        own = intervals(values, {name: drawn[name][:, place] for name in values}, settings.confidence)
        rows.append({"label": labels[number], **values, "rows": int(once["support"][0, place]), "intervals": own})
    return sorted(rows, key=lambda row: (row["f1"], row["label"]))


def predictions(test: TestSet, scored: Mapping[str, Scored]) -> pa.Table:
    """Every test row with the truth and each model's answer and confidence (or value)."""
    columns: dict[str, Any] = {
        name: test.table.column(name)
        for name in ("row_id", "text", "text_pair", "target")
        if name in test.table.column_names
    }
    for name, part in scored.items():
        if test.classification:
            columns[f"{name}_label"] = [test.classes[number] for number in part.scores.argmax(axis=1)]
            columns[f"{name}_confidence"] = part.scores.max(axis=1)
        else:
            columns[f"{name}_value"] = part.scores[:, 0]
    return pa.table(columns)


def reference(validation: pa.Table, predictor: Predictor) -> pa.Table:
    """Held-out rows as the served model sees them: what later traffic is compared with.

    Validation rows, not training rows: a model is surer of what it was trained on, and every clean window would
    look like drift. For regression `prediction` is the value and `confidence` is null.
    """
    texts = validation.column("text").to_pylist()
    found = predictor.predict(texts, pairs(validation))
    classes = bool(predictor.labels)
    return pa.table(
        {
            "text": texts,
            "label": validation.column("target"),
            "prediction": list(found.labels) if classes else np.asarray(found.scores[:, 0], np.float64),
            "confidence": pa.array(
                np.asarray(found.confidence, np.float64) if classes else [None] * len(texts), pa.float64()
            ),
            "length": np.asarray(found.lengths, np.int64),
            "unknown": np.asarray(found.unknown, np.float64),
            "embedding": pa.array(list(np.asarray(found.embeddings, np.float32)), pa.list_(pa.float32())),
        }
    )


def replay(test: TestSet) -> pa.Table:
    """Test rows with their truth, to be sent through the gateway when there is no traffic."""
    wanted = ("row_id", "text", "text_pair", "target", "time")
    return test.table.select([name for name in wanted if name in test.table.column_names])
