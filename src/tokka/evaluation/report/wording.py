"""Figures as people read them: names of metrics, percent where a share is meant, intervals, signed differences."""

from collections.abc import Mapping

from tokka.evaluation.metrics.metrics import METRICS


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
