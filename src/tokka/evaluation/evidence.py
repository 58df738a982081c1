"""The evidence folder: what was measured, in the forms that the gate, Kubeflow, drift watching and people read.

| File                | For                                                                              |
|---------------------|----------------------------------------------------------------------------------|
| evaluation.json     | the gate, the registry: every figure that decides                                |
| details.json        | the report: per class, calibration, confusions, what was measured where          |
| report.html         | people                                                                           |
| scores.npz          | every model's scores on every test row: for the gate, and what is measured later |
| predictions.parquet | every test row, whole, with every model's answer: the gate computes from it again |
| training_rows.npz   | hashes of what was trained on: no test row may be among them                     |
| reference.parquet   | drift: test rows with prediction, confidence, length, embedding                  |
| replay.parquet      | replayed traffic: test rows with their truth                                     |
| confusion.json, roc.json | Kubeflow's pages                                                            |
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files
from tokka.data.preparation import dropped
from tokka.evaluation.alternatives import Benchmark
from tokka.evaluation.gate.agreement import FILES
from tokka.evaluation.metrics import cost, curves, metrics, resampling, temperature, test_set
from tokka.evaluation.metrics.intervals import intervals
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models.scoring import OpenedModel, Scored
from tokka.evaluation.report.report import render
from tokka.files import JsonObject, Tree
from tokka.model.predictor import Predictor
from tokka.params import Params
from tokka.sections import Data

PREDICTIONS, SCORES, TRAINING_ROWS = FILES


def write(
    out: Path, evaluation: Tree, benchmark: Benchmark, scored: Mapping[str, Scored], candidate: OpenedModel, more: Tree
) -> None:
    """Write every other file; evaluation.json comes last, so that a folder that has it is whole.

    `more` joins the details. The page tells no verdict: the gate has not decided.
    """
    found, test = details(benchmark, scored, candidate) | dict(more), benchmark.test
    origin = reference_origin(benchmark.params.data)
    pq.write_table(reference(test, candidate.predictor, origin), out / "reference.parquet")
    pq.write_table(replay(test), out / "replay.parquet")
    for name in ("confusion", "roc"):
        files.write_json(out / f"{name}.json", found[name])
    write_page(out, evaluation, found, None)
    files.write_json(out / "evaluation.json", evaluation)


def write_rows(out: Path, benchmark: Benchmark, scored: Mapping[str, Scored]) -> dict[str, str]:
    """Write what every figure follows from: test rows, answers, scores; the sha256 of each file by its name."""
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(predictions(benchmark.test, scored), out / PREDICTIONS)
    np.savez_compressed(out / SCORES, allow_pickle=False, **{name: part.scores for name, part in scored.items()})
    np.savez_compressed(out / TRAINING_ROWS, allow_pickle=False, **test_set.training_rows(benchmark.data))
    return {name: files.digest_file(out / name) for name in FILES}


def write_page(out: Path, evaluation: Tree, found: Tree, decision: Tree | None) -> None:
    """The page and, last, the details that it shows; the gate's decision stands first, once there is one."""
    files.write_text(out / "report.html", render(evaluation, found, decision))
    files.write_json(out / "details.json", found)


def details(benchmark: Benchmark, scored: Mapping[str, Scored], candidate: OpenedModel) -> JsonObject:
    """What the report shows and no rule reads, as far as it follows from the scores."""
    data, test, params, scores = benchmark.data, benchmark.test, benchmark.params, scored["candidate"].scores
    found: JsonObject = {
        "model": params.registry.model,
        "base": params.model.base,
        "data": {"rows": data.summary.get("rows", {}), "labels": len(data.labels)},
        "dropped": dropped.read(data.folder),
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
        "abstention": curves.abstention(test, scores),
        "per_class": per_class(target, scores.argmax(axis=1), test.classes, params),
        "calibration": {name: metrics.calibration(target, part.scores) for name, part in scored.items()},
        "temperature": temperature.before_and_after(target, scores, candidate.predictor.config.temperature, params),
    }


def per_class(
    target: metrics.Integers, predicted: metrics.Integers, labels: tuple[str, ...], params: Params
) -> list[JsonObject]:
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
    columns = {name: test.table.column(name) for name in test.table.column_names}
    for name, part in scored.items():
        if test.classification:
            columns[f"{name}_label"] = [test.classes[number] for number in part.scores.argmax(axis=1)]
            columns[f"{name}_confidence"] = part.scores.max(axis=1)
        else:
            columns[f"{name}_value"] = part.scores[:, 0]
    return pa.table(columns)


def reference_origin(data: Data) -> str:
    """Which rows traffic is compared with, for people."""
    return f"rows of {data.test}" if data.test else "test rows, held out of the data"


def reference(test: TestSet, predictor: Predictor, origin: str) -> pa.Table:
    """Test rows as the served model sees them: what later traffic is compared with; `origin` says whose rows they are.

    No training rows, of which a model is surer, and no validation rows, by which it was chosen and calibrated and
    which are of the training file even where the test rows are not: clean windows would look like drift. For regression
    `prediction` is the value and `confidence` is null.
    """
    texts = test.texts
    found = predictor.predict(texts, test.pairs)
    classes = bool(predictor.labels)
    table = pa.table(
        {
            "text": texts,
            "label": test.table.column("target"),
            "prediction": list(found.labels) if classes else np.asarray(found.scores[:, 0], np.float64),
            "confidence": pa.array(found.confidence if classes else [None] * len(texts), pa.float64()),
            "length": np.asarray(found.lengths, np.int64),
            "unknown": np.asarray(found.unknown, np.float64),
            "embedding": pa.array(list(np.asarray(found.embeddings, np.float32)), pa.list_(pa.float32())),
        }
    )
    return table.replace_schema_metadata({"origin": origin})


def replay(test: TestSet) -> pa.Table:
    """Test rows with their truth, to be sent through the gateway when there is no traffic."""
    wanted = ("row_id", "text", "text_pair", "target", "time")
    return test.table.select([name for name in wanted if name in test.table.column_names])
