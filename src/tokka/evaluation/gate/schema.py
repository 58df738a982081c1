"""What evaluation.json must look like: every field required, typed, finite, and no field unknown.

The gate reads an evaluation through these models alone, so a field that is missing, NaN or of another type is a
refusal before any rule is asked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Champion:
    """What serves now. "none": nothing does; "unreachable": it is unknown what does, or cannot be fetched.

    `generation`: of the deployment record when it was asked; 0 where it was named by somebody else.
    """

    status: Literal["none", "present", "unreachable"]
    version: str
    folder: Path | None
    reason: str
    generation: int = 0


class Strict(BaseModel):
    """Frozen, no coercion, no unknown key, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Bounds(Strict):
    """A value inside its interval."""

    value: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("expected low <= value <= high")
        return self


class SliceMetric(Strict):
    """The main per-row metric (accuracy, or mean absolute error) on one slice."""

    slice: Name
    value: str
    rows: Count
    metric: Bounds


class Latency(Strict):
    """Milliseconds for one text at a time, on the served form, one thread."""

    p50: Positive
    p99: Positive


class ModelScores(Strict):
    """One model on the test set. `labels` is what it can answer; sizes are in MB of 10^6 bytes."""

    name: Name
    version: str
    form: Name
    labels: list[str]
    data_digest: str
    test_digest: Name
    rows: Count
    metrics: dict[str, Bounds]
    slices: list[SliceMetric]
    latency_ms: Latency
    throughput: Positive
    size_mb: Positive
    memory_mb: Positive
    cold_start_s: Positive
    cpu_ms: Positive
    parameters: Annotated[int, Field(ge=1)]
    # Of the model folder; empty for the baseline.
    digest: str
    # What of the base model was trained; frozen: the head alone. Not in evaluations that were written before it was.
    strategy: str = ""


class Difference(Strict):
    """Candidate minus other inside its interval, with a two-sided p-value; positive: the candidate is better."""

    rows: Count
    difference: float
    low: float
    high: float
    p_value: Annotated[float, Field(ge=0.0, le=1.0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.difference <= self.high:
            raise ValueError("expected low <= difference <= high")
        return self


class SliceDifference(Difference):
    """On one slice; interval and p-value are simultaneous over all slices."""

    slice: Name
    value: str
    # Not in evaluations that were written before it was.
    p_value: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0


class Comparison(Difference):
    """On all rows, in the gated metric."""

    metric: Name
    slices: list[SliceDifference]


class Comparisons(Strict):
    """Candidate against the champion, the general baseline and the simple ways; null where there is none."""

    champion: Comparison | None
    general: Comparison | None
    linear: Comparison | None = None
    tfidf: Comparison | None = None


class Test(Strict):
    """The frozen test set. `scale` is 1 for classification and the targets' standard deviation for regression."""

    __test__ = False

    rows: Count
    digest: Name
    labels: list[str]
    scale: Positive


class Overlap(Strict):
    """Test rows that training or validation holds as well: by row id, and by normalised text."""

    row_ids: Count
    texts: Count


class Evaluation(Strict):
    """The whole of evaluation.json."""

    format: Annotated[int, Field(ge=1, le=1)]
    task: Literal["classification", "regression"]
    metric: Name
    higher_is_better: bool
    test: Test
    data_digest: Name
    overlap: Overlap
    candidate: ModelScores
    champion: ModelScores | None
    champion_status: Literal["none", "present", "unreachable"]
    champion_reason: str
    # Of the record, when the champion was asked for; and what the figures follow from, by sha256.
    generation: Count
    files: dict[str, str]
    general: ModelScores | None
    # The simple ways, where gate.must_beat asks for them.
    linear: ModelScores | None = None
    tfidf: ModelScores | None = None
    comparison: Comparisons
