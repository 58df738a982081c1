"""Every figure of an evaluation that follows from its predictions, computed again for the gate, which believes none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokka import files
from tokka.errors import TokkaError
from tokka.evaluation.gate.agreement import FILES, Seen
from tokka.evaluation.metrics import test_set
from tokka.evaluation.metrics.comparison import compare_on
from tokka.evaluation.metrics.metrics import Floats
from tokka.evaluation.metrics.slices import by_confidence
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models.scoring import measure, slice_metrics
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.registry.entities import part

MODELS = ("candidate", "champion", "general", "linear", "tfidf")
PREDICTIONS, SCORES, TRAINING_ROWS = FILES


def look(folder: Path, evaluation: Tree, params: Params, champion: tuple[str, str] | None = ("", "")) -> Seen:
    """What the files in an evidence folder say; never raises: what cannot be computed again is a `problem`.

    `champion`: version and digest of what serves now, None for nothing.
    """
    try:
        digests = {name: files.digest_file(folder / name) for name in FILES}
        table = pq.read_table(folder / PREDICTIONS)
        with np.load(folder / SCORES, allow_pickle=False) as found:
            scores = {name: found[name] for name in found.files}
        with np.load(folder / TRAINING_ROWS, allow_pickle=False) as found:
            overlap = test_set.overlap_of(table, found["row_ids"], found["texts"])
        figures = {**recompute(table, scores, evaluation, params), "overlap": overlap}
        keys = len(set(test_set.keys(table)))
        return Seen(figures, digests, keys, len(set(table.column("target").to_pylist())), champion)
    except Exception as error:  # evidence that was altered can fail anywhere, and each means no
        reason = error.message if isinstance(error, TokkaError) else f"{type(error).__name__}: {error}"
        return Seen(champion=champion, problem=" ".join(reason.split())[:200])


def recompute(table: pa.Table, scores: Mapping[str, Floats], evaluation: Tree, params: Params) -> JsonObject:
    """The figures of evaluation.json, in its shape, from test rows and the scores of every model on them.

    TokkaError when the labels in the table are not the highest scores, or scores are of other rows.
    """
    task, labels = params.task.type, list(part(evaluation, "test").get("labels") or ())  # type: ignore[call-overload]
    known = [label for name in MODELS[:2] for label in part(evaluation, name).get("labels") or ()]  # type: ignore[attr-defined]
    test = test_set.of_table(table, task, tuple(labels), known, params.evaluation.slices_minimum_rows)
    for name, found in scores.items():
        _check(name, found, table, test)
    if test.classification:
        whose = "champion" if "champion" in scores else "candidate"
        sliced = by_confidence(scores[whose], whose, params.evaluation.slices_minimum_rows)
        test = test_set.with_slices(test, sliced)
    metric = str(evaluation["metric"])

    def against(name: str) -> JsonObject | None:
        both = scores["candidate"], scores.get(name)
        return None if both[1] is None else compare_on(test, metric, (both[0], both[1]), params).model_dump()

    return {
        "task": task,
        "test": {"rows": test.rows, "digest": test.digest, "labels": labels, "scale": test.scale},
        **{name: _figures(test, scores.get(name), params) for name in MODELS},
        "comparison": {name: against(name) for name in MODELS[1:]},
    }


def _figures(test: TestSet, scores: Floats | None, params: Params) -> JsonObject | None:
    if scores is None:
        return None
    return {
        "rows": test.rows,
        "test_digest": test.digest,
        "metrics": measure(test, scores, params),
        "slices": slice_metrics(test, scores, params.evaluation.confidence),
    }


def _check(name: str, scores: Floats, table: pa.Table, test: TestSet) -> None:
    if name not in MODELS or scores.shape != (test.rows, max(1, len(test.classes))):
        raise TokkaError(f"the scores of {name} have the shape {scores.shape}")
    column = f"{name}_label" if test.classification else f"{name}_value"
    if column not in table.column_names:
        raise TokkaError(f"the predictions have no column {column}")
    told = table.column(column).to_pylist()
    said = [test.classes[number] for number in scores.argmax(axis=1)] if test.classification else scores[:, 0].tolist()
    if told != said:
        raise TokkaError(f"the answers of {name} in {PREDICTIONS} are not those of its scores in {SCORES}")
