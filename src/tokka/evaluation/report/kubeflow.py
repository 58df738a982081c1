"""What Kubeflow's pages show of an evaluation: a table of metrics, a confusion matrix and a ROC curve.

Takes kfp's artifact objects as they come, so that this package needs no kfp. kfp refuses NaN, infinity and numpy's
float types: everything here is a plain finite float.
"""

from pathlib import Path
from typing import Protocol

from tokka import files
from tokka.evaluation.report.wording import Tree


class Metrics(Protocol):
    """kfp's Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None: ...  # noqa: D102


class ClassificationMetrics(Protocol):
    """kfp's ClassificationMetrics artifact."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...  # noqa: D102

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None: ...  # noqa: D102


def show_metrics(evaluation: Tree, metrics: Metrics) -> None:
    """Log every metric of every model as `subject_metric` on a kfp Metrics artifact."""
    for name in ("candidate", "champion", "general"):
        subject = evaluation.get(name) or {}
        for metric, found in subject.get("metrics", {}).items():
            metrics.log_metric(f"{name}_{metric}", round(float(found["value"]), 6))
        if subject:
            metrics.log_metric(f"{name}_latency_p50_ms", round(float(subject["latency_ms"]["p50"]), 3))
            metrics.log_metric(f"{name}_size_mb", round(float(subject["size_mb"]), 3))


def show_classification(folder: Path, classification: ClassificationMetrics) -> None:
    """Log confusion.json and roc.json of an evidence folder on a kfp ClassificationMetrics artifact.

    A regression has neither, and its artifact stays empty.
    """
    confusion, roc = files.read_json(folder / "confusion.json"), files.read_json(folder / "roc.json")
    if confusion["labels"]:
        classification.log_confusion_matrix(confusion["labels"], confusion["matrix"])
    if roc["fpr"]:
        classification.log_roc_curve(roc["fpr"], roc["tpr"], roc["threshold"])
