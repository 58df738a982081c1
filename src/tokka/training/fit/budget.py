"""How many steps fit into `finetuning.time_budget`, decided before the first one from measured speed.

The learning rate has to reach zero: a schedule that is cut off in the middle is worse than a shorter one.
"""

from dataclasses import dataclass

from tokka.errors import UsageError
from tokka.sections import Finetuning

UNITS = {"s": 1, "m": 60, "h": 3600}
# Kept back for what the measurement did not see.
RESERVE = 0.06


@dataclass(frozen=True)
class Plan:
    """Epochs of equal length, `batches` each; `accumulate` of them are an optimizer step."""

    epochs: int
    batches: int
    accumulate: int = 1

    def steps(self, batches: int) -> int:
        """Optimizer steps of so many batches of one epoch; a last group that is not full is a step as well."""
        return -(-batches // self.accumulate)

    @property
    def total(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps(self.batches)


def budget_seconds(params: Finetuning) -> float | None:
    """`finetuning.time_budget` in seconds of wall clock."""
    if params.time_budget is None:
        return None
    return float(int(params.time_budget[:-1]) * UNITS[params.time_budget[-1]])


def plan_steps(
    *, epochs: int, batches: int, seconds: float, batch_seconds: float, validation_seconds: float, accumulate: int = 1
) -> Plan:
    """The longest training of at most `epochs` times `batches` that fits into `seconds`, validations included.

    UsageError when not even one step fits.
    """
    usable, full_epoch = seconds * (1 - RESERVE), batches * batch_seconds + validation_seconds
    if epochs * full_epoch <= usable:
        return Plan(epochs=epochs, batches=batches, accumulate=accumulate)
    for wanted in range(min(epochs, max(1, -int(-usable // full_epoch))), 0, -1):
        fitting = min(batches, int((usable / wanted - validation_seconds) / batch_seconds))
        if fitting >= 1:
            whole = fitting if fitting in {batches, fitting % accumulate} else fitting - fitting % accumulate
            return Plan(epochs=wanted, batches=whole, accumulate=accumulate)
    needed = (batch_seconds + validation_seconds) / (1 - RESERVE)
    raise UsageError(
        f"finetuning.time_budget leaves {seconds:.0f} s for training, one step needs {needed:.0f} s",
        "a larger budget, a smaller batch, or strategy: frozen",
    )


def remaining_batches(*, plan_batches: int, epochs_left: int, seconds_left: float, epoch_seconds: float) -> int:
    """Batches per epoch for what is left, at least one; the last epoch took `epoch_seconds` for `plan_batches`."""
    affordable = seconds_left / epochs_left / epoch_seconds * plan_batches
    return max(1, min(plan_batches, int(affordable)))
