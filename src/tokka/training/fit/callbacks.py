"""What happens at the end of an epoch, and what the user sees in between."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from tokka import files, progress
from tokka.model.network import as_safetensors
from tokka.training.fit import checkpoints
from tokka.training.fit.budget import Plan, remaining_batches
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.fit.validation import STEERING
from tokka.training.setup.datamodule import Batch, PreparedRows
from tokka.training.setup.optimisation import Schedule

REPORT_SECONDS = 2.0
Curve = dict[str, float]
# Gets an epoch's entry of the curves; what it raises ends the training.
OnEpoch = Callable[[Curve], None]


class Averaging(EMAWeightAveraging):  # type: ignore[misc]  # Lightning ships no types that we read
    """The weights' exponential moving average per step: validated, kept as best, exported in place of the last ones."""

    def __init__(self, decay: float) -> None:
        # Averaged buffers would cut whole numbers, such as position ids, to the next lower one.
        super().__init__(use_buffers=False, decay=decay)

    def weights(self) -> dict[str, Tensor]:
        """The specialist's averaged weights by name; only once training has been set up."""
        return dict(self._average_model.module.model.state_dict())


@dataclass
class Progress:
    """What a resumed training needs to go on as if nothing had happened.

    best_epoch counts from 1. stopping: the last epoch runs. seconds: spent so far, of the wall clock and the processor.
    """

    curves: list[Curve] = field(default_factory=list)
    best_epoch: int = 0
    stopping: bool = False
    stopped: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class TrainingCallback(pl.Callback):  # type: ignore[misc]  # as above
    """Curves, best weights, early stopping, the time budget, and a checkpoint, in this order at each epoch's end.

    `seconds` are left for training when it starts, None without a budget; the weights of `averaging` count instead of
    the module's; `on_epoch` is told of each epoch once its checkpoint is written.
    """

    def __init__(
        self, module: FinetuningModule, data: PreparedRows, plan: Plan, work: Path, seconds: float | None,
        averaging: Averaging | None = None, on_epoch: OnEpoch | None = None,
    ) -> None:  # fmt: skip
        self.module, self.data, self.plan, self.work, self.budget = module, data, plan, work, seconds
        self.averaging, self.on_epoch = averaging, on_epoch
        self.progress = Progress()
        self._began, self._cpu_began = time.monotonic(), time.process_time()
        self._follow(Schedule.of(module.params, plan.total), plan.batches)

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return self.data.limit or self.plan.batches

    def state_dict(self) -> dict[str, object]:
        """The progress, the schedule's points, and the batches of an epoch."""
        points = [list(point) for point in self.module.schedule.points]
        return {**asdict(self.progress), "points": points, "batches": self.data.limit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`, which Lightning reads back without types."""
        points = tuple((float(step), float(factor)) for step, factor in state.pop("points"))
        self._follow(Schedule(points=points), state.pop("batches"))
        self.progress = Progress(**state)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training that had stopped early does not go on after a kill."""
        trainer.should_stop = self.progress.stopped
        self._began, self._cpu_began = time.monotonic(), time.process_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch, keep the best weights, stop or shorten, and save."""
        spent, now = self._tick(), self.progress
        # Of several processes the first one's clock and figures count: they must all come to the same decisions.
        spent, now.seconds, self.module.validation = trainer.strategy.broadcast(
            (spent, now.seconds, self.module.validation)
        )
        self._note(trainer.global_step)
        if trainer.is_global_zero and now.best_epoch == len(now.curves):
            files.write_bytes(self.work / checkpoints.BEST, as_safetensors(self.weights()))
        self._lose_patience(trainer.global_step)
        trainer.should_stop = now.stopped
        self._shorten(trainer.global_step, spent)
        trainer.save_checkpoint(self.work / checkpoints.LAST)
        if self.on_epoch:
            self.on_epoch(now.curves[-1])

    def weights(self) -> dict[str, Tensor]:
        """What is validated and exported: the moving average where there is one."""
        return self.averaging.weights() if self.averaging else self.module.model.state_dict()

    def use_best(self) -> bool:
        """Whether the best epoch is to be preferred to the last one, which has the fully decayed learning rate.

        It is when it is better by more than the standard error of the metric.
        """
        curves = self.progress.curves
        if not curves or self.progress.best_epoch == len(curves):
            return False
        return -self._gain() > curves[-1]["validation_standard_error"]

    def _follow(self, schedule: Schedule, batches: int | None) -> None:
        self.module.schedule = schedule
        self.data.limit = batches

    def _tick(self) -> float:
        began, cpu_began = self._began, self._cpu_began
        self._began, self._cpu_began = time.monotonic(), time.process_time()
        self.progress.seconds += self._began - began
        self.progress.cpu_seconds += self._cpu_began - cpu_began
        return self._began - began

    def _note(self, step: int) -> None:
        now = self.progress
        now.curves.append(
            {
                "epoch": float(len(now.curves) + 1),
                "step": float(step),
                "train_loss": self.module.take_mean_loss(),
                **{f"validation_{name}": value for name, value in self.module.validation.items()},
                "seconds": now.seconds,
                "cpu_seconds": now.cpu_seconds,
            }
        )
        if not now.best_epoch or self._gain() > self.module.params.early_stopping.minimum_improvement:
            now.best_epoch = len(now.curves)

    def _gain(self) -> float:
        name, higher = STEERING[self.module.task]
        last, best = (self.progress.curves[place][f"validation_{name}"] for place in (-1, self.progress.best_epoch - 1))
        return last - best if higher else best - last

    def _lose_patience(self, step: int) -> None:
        """Early stopping: no better for `patience` epochs, and one more follows in which the learning rate runs out.

        Stopping at once, at a high learning rate, cost a point of accuracy on BANKING77.
        """
        now, patience = self.progress, self.module.params.early_stopping.patience
        left = self.plan.epochs - len(now.curves)
        now.stopped = now.stopping and left > 0
        if not now.stopping and left > 0 and len(now.curves) - now.best_epoch >= patience:
            now.stopping = True
            self._end_after(step, epochs=1, batches=self.batches)

    def _shorten(self, step: int, spent: float) -> None:
        now = self.progress
        left = min(self.plan.epochs - len(now.curves), 1 if now.stopping else self.plan.epochs)
        if self.budget is None or left < 1 or now.stopped:
            return
        batches = remaining_batches(
            plan_batches=self.batches, epochs_left=left, seconds_left=self.budget - now.seconds, epoch_seconds=spent
        )
        if batches < self.batches:
            self._end_after(step, left, batches)

    def _end_after(self, step: int, epochs: int, batches: int) -> None:
        self._follow(self.module.schedule.shortened(step, step + epochs * self.plan.steps(batches)), batches)


class ProgressCallback(pl.Callback):  # type: ignore[misc]  # as above
    """Reports how far training is, at most every REPORT_SECONDS."""

    def __init__(self, training: TrainingCallback) -> None:
        self.training = training
        self._reported, self._began, self._first = 0.0, 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the estimate."""
        self._began, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Report the seconds that are left."""
        now, step = time.monotonic(), trainer.global_step
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            pace = (now - self._began) / max(1, step - self._first)
            self._report(trainer, f", {(self._total(trainer) - step) * pace:.0f} s left")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation figure."""
        name, _ = STEERING[self.training.module.task]
        self._report(trainer, f": validation {name} {self.training.module.validation.get(name, 0.0):.4f}")

    def _report(self, trainer: pl.Trainer, message: str) -> None:
        epoch = f"epoch {trainer.current_epoch + 1} of {self.training.plan.epochs}"
        fraction = min(1.0, trainer.global_step / self._total(trainer))
        progress.report("finetune", epoch + message, fraction=fraction)

    def _total(self, trainer: pl.Trainer) -> int:
        plan, curves = self.training.plan, self.training.progress.curves
        done = int(curves[-1]["step"]) if curves else 0
        return int(max(1, done + (plan.epochs - trainer.current_epoch) * plan.steps(self.training.batches)))
