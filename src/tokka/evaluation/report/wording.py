"""Figures as people read them: names of metrics, percent where a share is meant, intervals, signed differences.

interval("accuracy", {"value": 0.941, "low": 0.93, "high": 0.95})      # ("94.1 %", "93.0 to 95.0")
"""

from collections.abc import Mapping
from typing import Any

# evaluation.json, details.json, or a part of one, read back: the gate has checked the one, this program wrote both.
Tree = Mapping[str, Any]

# Name, whether more is better, and whether it is a share that reads best as a percentage; in the report's order.
METRICS: dict[str, tuple[str, bool, bool]] = {
    "accuracy": ("Accuracy", True, True),
    "f1_macro": ("F1, macro", True, True),
    "f1_weighted": ("F1, weighted", True, True),
    "precision_macro": ("Precision, macro", True, True),
    "precision_weighted": ("Precision, weighted", True, True),
    "recall_macro": ("Recall, macro", True, True),
    "recall_weighted": ("Recall, weighted", True, True),
    "roc_auc": ("ROC-AUC, one against the rest", True, True),
    "average_precision": ("Average precision", True, True),
    "ece": ("Calibration error (ECE)", False, True),
    "log_loss": ("Log loss", False, False),
    "brier": ("Brier score", False, False),
    "mae": ("Mean absolute error", False, False),
    "rmse": ("Root mean squared error", False, False),
    "r2": ("R²", True, False),
    "pearson": ("Pearson correlation", True, False),
    "spearman": ("Spearman correlation", True, False),
}


def metric_name(metric: str) -> str:
    """The name that a reader sees."""
    return METRICS[metric][0]


def is_share(metric: str) -> bool:
    """Whether the metric reads best as a percentage."""
    return METRICS[metric][2]


def interval(metric: str, found: Mapping[str, float]) -> tuple[str, str]:
    """A value and its interval as two texts."""
    if is_share(metric):
        return f"{100 * found['value']:.1f} %", f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
    return f"{found['value']:.4g}", f"{found['low']:.4g} to {found['high']:.4g}"


def difference(metric: str, found: Mapping[str, float]) -> tuple[str, str]:
    """A signed difference and its interval; shares differ by percentage points."""
    values = [found["difference"], found["low"], found["high"]]
    middle, low, high = [_signed(100 * value, 1) if is_share(metric) else _signed(value, 4) for value in values]
    return f"{middle} points" if is_share(metric) else middle, f"{low} to {high}"


def p_value(p: float) -> str:
    """A p-value with four digits, or that it is below them."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def subject_title(name: str, subject: Mapping[str, object]) -> str:
    """What a column of the report is called."""
    if name == "champion":
        return f"Champion, version {subject['version']}" if subject["version"] else "Champion"
    return {"candidate": "Candidate", "general": "General model"}[name]


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    # A true minus sign is as wide as the plus; a rounded zero has no sign.
    return text.replace("-", "−") if float(text) else text.lstrip("+-")  # noqa: RUF001
