"""What Kubeflow's pages show of an evaluation: a table of metrics, a confusion matrix and a ROC curve.

Takes kfp's artifact objects as they come, so that this package needs no kfp. kfp refuses NaN, infinity and numpy's
float types: everything here is a plain finite float.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tokka import files
from tokka.files import Tree

OWN_METRICS, SHOWN_METRICS = 5, 12
# More run out of the panel of the UI.
SHOWN_CLASSES, OTHER = 15, "other"


class Metrics(Protocol):
    """kfp's Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None: ...  # noqa: D102


class ClassificationMetrics(Protocol):
    """kfp's ClassificationMetrics artifact."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...  # noqa: D102

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None: ...  # noqa: D102


def show_metrics(evaluation: Tree, metrics: Metrics) -> None:
    """Log what a reader compares runs by: the candidate's own figures, and the gated metric of the others."""
    gated, candidate = evaluation["metric"], evaluation["candidate"]
    own = [gated, *(name for name in candidate["metrics"] if name != gated)][:OWN_METRICS]
    values = {f"candidate_{name}": candidate["metrics"][name]["value"] for name in own}
    values |= {"candidate_latency_p99_ms": candidate["latency_ms"]["p99"], "candidate_size_mb": candidate["size_mb"]}
    for name in ("champion", "general"):
        if subject := evaluation.get(name):
            values[f"{name}_{gated}"] = subject["metrics"][gated]["value"]
        if compared := (evaluation.get("comparison") or {}).get(name):
            values[f"better_than_{name}_by"] = compared["difference"]
    show(values, metrics)


def show(values: Mapping[str, object], metrics: Metrics) -> None:
    """Log the first figures that are finite, rounded to four significant digits, on a kfp Metrics artifact."""
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    finite = [(name, value) for name, value in numbers.items() if math.isfinite(value)]
    for name, value in finite[:SHOWN_METRICS]:
        metrics.log_metric(name, float(f"{value:.4g}"))


def show_classification(folder: Path, classification: ClassificationMetrics) -> None:
    """Log confusion.json and roc.json of an evidence folder on a kfp ClassificationMetrics artifact.

    A regression has neither, and its artifact stays empty.
    """
    confusion, roc = files.read_json(folder / "confusion.json"), files.read_json(folder / "roc.json")
    if confusion["labels"]:
        classification.log_confusion_matrix(*most_confused(confusion["labels"], confusion["matrix"]))
    if roc["fpr"]:
        points = zip(roc["fpr"], roc["tpr"], roc["threshold"], strict=True)
        drawn = [point for point in points if all(map(math.isfinite, point))]
        classification.log_roc_curve(*(list(axis) for axis in zip(*drawn, strict=True)))


def most_confused(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> tuple[list[str], list[list[int]]]:
    """The matrix of the classes with most mistakes, in their order, and of all others as one class, `other`."""
    if len(labels) <= SHOWN_CLASSES + 1:
        return list(labels), [list(row) for row in matrix]
    count = range(len(labels))
    wrong = [sum(matrix[one]) + sum(row[one] for row in matrix) - 2 * matrix[one][one] for one in count]
    worst = sorted(sorted(count, key=lambda one: -wrong[one])[:SHOWN_CLASSES])
    groups = [[one] for one in worst] + [[one for one in count if one not in worst]]
    counts = [[sum(matrix[row][column] for row in rows for column in columns) for columns in groups] for rows in groups]
    return [*(labels[one] for one in worst), OTHER], counts
