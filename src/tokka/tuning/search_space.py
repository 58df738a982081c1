"""What `tokka tune` may change: keys of the finetuning section, each with the range in which it is sought."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokka.errors import UsageError
from tokka.params import Params, parse_params
from tokka.sections import Finetuning

if TYPE_CHECKING:
    import optuna

DIGITS = 3
Values = dict[str, float]


@dataclass(frozen=True)
class Range:
    """From low to high, both included; `log` searches magnitudes, `whole` gives integers, `choices` only these."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    choices: tuple[int, ...] = ()

    def including(self, present: float) -> "Range":
        """The same, wide enough to hold the present value, which is always tried."""
        choices = tuple(sorted({*self.choices, int(present)})) if self.choices else ()
        return replace(self, low=min(self.low, present), high=max(self.high, present), choices=choices)

    def suggest(self, trial: "optuna.Trial", name: str) -> float:
        """A value for an Optuna trial, as it would stand in params.yaml: three significant digits."""
        if self.choices:
            return int(trial.suggest_categorical(name, self.choices))
        if self.whole:
            return int(trial.suggest_int(name, int(self.low), int(self.high)))
        return rounded(trial.suggest_float(name, self.low, self.high, log=self.log))


SPACE = {
    "learning_rate": Range(5e-5, 1e-3, log=True),
    "epochs": Range(2, 8, whole=True),
    "batch_size": Range(16, 128, choices=(16, 32, 64, 128)),
    "layer_decay": Range(0.7, 1.0),
    "label_smoothing": Range(0.0, 0.2),
    "warmup_share": Range(0.0, 0.2),
    "weight_decay": Range(0.0, 0.1),
    "augmentation.word_dropout": Range(0.0, 0.2),
}


def make_space(finetuning: Finetuning, overrides: Sequence[str] = ()) -> dict[str, Range]:
    """The ranges above, those of `key=low:high` in their place, each wide enough for the present value.

    UsageError for an unknown key, no range, a present value that is no number, or a strategy without epochs.
    """
    if finetuning.strategy == "frozen":
        raise UsageError("finetuning.strategy: frozen has nothing to tune", "choose full, partial, lora or gradual")
    if finetuning.learning_rate == "auto":
        raise UsageError("finetuning.learning_rate: auto is found anew by each training", "set a number to start from")
    space, present = SPACE | dict(map(_parse, overrides)), present_values(finetuning)
    return {name: one.including(present[name]) for name, one in space.items()}


def present_values(finetuning: Finetuning) -> Values:
    """What stands in params.yaml for every key that is searched."""
    flat = {**finetuning.model_dump(), "augmentation.word_dropout": finetuning.augmentation.word_dropout}
    return {name: flat[name] for name in SPACE}


def with_values(params: Params, values: Values) -> Params:
    """Params with these values in the finetuning section; UsageError for one that params.yaml may not have."""
    tree = params.model_dump()
    for name, value in values.items():
        place = tree["finetuning"]
        *parts, last = name.split(".")
        for part in parts:
            place = place[part]
        place[last] = value
    return parse_params(tree, origin="tokka tune")


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.{DIGITS}g}")


def _parse(override: str) -> tuple[str, Range]:
    name, _, text = override.partition("=")
    name = name.strip().removeprefix("finetuning.")
    if name not in SPACE:
        raise UsageError(f"--search {override!r}: {name!r} is not searched", f"the keys are {', '.join(SPACE)}")
    known, (low_text, _, high_text) = SPACE[name], text.partition(":")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high) or (known.log and low <= 0):
        raise UsageError(f"--search {override!r} is not key=low:high", "for example: --search learning_rate=1e-5:1e-3")
    choices = tuple(size for size in (8, 16, 32, 64, 128, 256) if low <= size <= high) if known.choices else ()
    return name, replace(known, low=low, high=high, choices=choices or (known.choices and (int(low), int(high))))
