"""What Kubeflow's pages show of an evaluation: a table of metrics, a confusion matrix and a ROC curve.

Takes kfp's artifact objects as they come, so that this package needs no kfp. kfp refuses NaN, infinity and numpy's
float types: everything here is a plain finite float.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokka import files


def show_metrics(evaluation: Mapping[str, Any], metrics: Any) -> None:
    """Log every metric of every model as `subject_metric` on a kfp Metrics artifact."""
    for name in ("candidate", "champion", "general"):
        subject = evaluation.get(name) or {}
        for metric, found in subject.get("metrics", {}).items():
            metrics.log_metric(f"{name}_{metric}", round(float(found["value"]), 6))
        if subject:
            metrics.log_metric(f"{name}_latency_p50_ms", round(float(subject["latency_ms"]["p50"]), 3))
            metrics.log_metric(f"{name}_size_mb", round(float(subject["size_mb"]), 3))


def show_classification(folder: Path, classification: Any) -> None:
    """Log confusion.json and roc.json of an evidence folder on a kfp ClassificationMetrics artifact.

    A regression has neither, and its artifact stays empty.
    """
    confusion, roc = files.read_json(folder / "confusion.json"), files.read_json(folder / "roc.json")
    if confusion["labels"]:
        classification.log_confusion_matrix(confusion["labels"], confusion["matrix"])
    if roc["fpr"]:
        classification.log_roc_curve(roc["fpr"], roc["tpr"], roc["threshold"])
