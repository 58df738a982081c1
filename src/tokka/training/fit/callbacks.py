"""What happens at the end of an epoch, and what the user sees in between."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from tokka import progress
from tokka.training.fit import checkpoints
from tokka.training.fit.budget import Plan, remaining_batches
from tokka.training.fit.ema import Averaging
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.fit.validation import STEERING
from tokka.training.setup.datamodule import PreparedRows
from tokka.training.setup.optimisation import Schedule

REPORT_SECONDS = 2.0
# Gets an epoch's entry of the curves; what it raises ends the training.
OnEpoch = Callable[[dict[str, float]], None]


class Course(pl.Callback):  # type: ignore[misc]  # Lightning ships no types that we read
    """Curves, best weights, early stopping, the time budget, and a checkpoint, in this order at each epoch's end.

    Args:
        plan: epochs and steps.
        work: where the checkpoint and the best weights lie.
        seconds: left for training when it starts; None without a time budget.
        averaging: whose weights count instead of the module's.
    """

    def __init__(
        self,
        module: FinetuningModule,
        data: PreparedRows,
        plan: Plan,
        work: Path,
        seconds: float | None,
        averaging: Averaging | None = None,
    ) -> None:
        self.module, self.data, self.plan, self.work, self.budget = module, data, plan, work, seconds
        self.averaging = averaging
        self.curves: list[dict[str, float]] = []
        self.on_epoch: OnEpoch | None = None  # told of each epoch once its checkpoint is written
        self.best_epoch, self.stopping, self.stopped = 0, False, False
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self._began, self._cpu_began = time.monotonic(), time.process_time()
        self.set_course(Schedule.of(module.params, plan.total), plan.batches)

    def set_course(self, schedule: Schedule, batches: int) -> None:
        """Let module and data follow a schedule and a number of batches per epoch."""
        self.module.schedule = schedule
        self.data.limit = batches

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on as if nothing had happened."""
        return {
            "curves": self.curves,
            "best_epoch": self.best_epoch,
            "stopping": self.stopping,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "points": [list(point) for point in self.module.schedule.points],
            "batches": self.data.limit,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.curves, self.best_epoch = state["curves"], state["best_epoch"]
        self.stopping, self.stopped = state["stopping"], state["stopped"]
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        points = tuple((float(step), float(factor)) for step, factor in state["points"])
        self.set_course(Schedule(points=points), state["batches"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """A training that had stopped early does not go on after a kill."""
        trainer.should_stop = self.stopped
        self._began, self._cpu_began = time.monotonic(), time.process_time()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the epoch, keep the best weights, stop or shorten, and save."""
        spent = self._tick()
        # Of several processes the first one's clock and figures count: they must all come to the same decisions.
        spent, self.seconds, self.module.validation = trainer.strategy.broadcast(
            (spent, self.seconds, self.module.validation)
        )
        self._note(trainer)
        if trainer.is_global_zero and self.best_epoch == len(self.curves):
            checkpoints.save_best(self.work, self.weights())
        self._lose_patience(trainer.global_step)
        trainer.should_stop = self.stopped
        self._shorten(trainer.global_step, spent)
        trainer.save_checkpoint(self.work / checkpoints.LAST)
        if self.on_epoch:
            self.on_epoch(self.curves[-1])

    def weights(self) -> dict[str, Tensor]:
        """What is validated and exported: the moving average where there is one."""
        found: dict[str, Tensor] = self.averaging.weights() if self.averaging else self.module.model.state_dict()
        return found

    def use_best(self) -> bool:
        """Whether the best epoch is to be preferred to the last one.

        The last has the fully decayed learning rate; an earlier one wins when it is better by more than the
        standard error of the metric.
        """
        if not self.curves or self.best_epoch == len(self.curves):
            return False
        return -self._gain() > self.curves[-1]["validation_standard_error"]

    def _tick(self) -> float:
        """Add the time since the last call; return its seconds."""
        now, cpu = time.monotonic(), time.process_time()
        spent = now - self._began
        self.seconds += spent
        self.cpu_seconds += cpu - self._cpu_began
        self._began, self._cpu_began = now, cpu
        return spent

    def _note(self, trainer: Any) -> None:
        figures = {f"validation_{name}": value for name, value in self.module.validation.items()}
        self.curves.append(
            {
                "epoch": float(len(self.curves) + 1),
                "step": float(trainer.global_step),
                "train_loss": self.module.take_mean_loss(),
                **figures,
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
            }
        )
        if not self.best_epoch or self._gain() > self.module.params.early_stopping.minimum_improvement:
            self.best_epoch = len(self.curves)

    def _gain(self) -> float:
        """How much better the last epoch is than the best one; negative when it is worse."""
        name, higher = STEERING[self.module.task]
        difference = self.curves[-1][f"validation_{name}"] - self.curves[self.best_epoch - 1][f"validation_{name}"]
        return difference if higher else -difference

    def _lose_patience(self, step: int) -> None:
        """Early stopping: no better for `patience` epochs, and one more follows in which the learning rate runs out.

        Weights at a high learning rate are worse than what it takes one epoch to make of them: stopping at once cost a
        point of accuracy on BANKING77.
        """
        left, patience = self.plan.epochs - len(self.curves), self.module.params.early_stopping.patience
        self.stopped = self.stopping and left > 0
        if not self.stopping and left > 0 and len(self.curves) - self.best_epoch >= patience:
            self.stopping = True
            batches = self.data.limit or self.plan.batches
            self.set_course(self.module.schedule.shortened(step, step + self.plan.steps(batches)), batches)

    def _shorten(self, step: int, spent: float) -> None:
        left = min(self.plan.epochs - len(self.curves), 1 if self.stopping else self.plan.epochs)
        if self.budget is None or left < 1 or self.stopped:
            return
        present = self.data.limit or self.plan.batches
        batches = remaining_batches(
            plan_batches=present, epochs_left=left, seconds_left=self.budget - self.seconds, epoch_seconds=spent
        )
        if batches < present:
            self.set_course(self.module.schedule.shortened(step, step + left * self.plan.steps(batches)), batches)


class Speaker(pl.Callback):  # type: ignore[misc]  # as above
    """Says now and then how far training is."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._spoken, self._began, self._first = 0.0, 0.0, 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the estimate."""
        self._began, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report at most every two seconds."""
        now = time.monotonic()
        if now - self._spoken < REPORT_SECONDS:
            return
        self._spoken = now
        self._say(trainer, now)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the validation figure."""
        name, _ = STEERING[self.course.module.task]
        figure = self.course.module.validation.get(name, 0.0)
        message = f"epoch {trainer.current_epoch + 1} of {self.course.plan.epochs}: validation {name} {figure:.4f}"
        progress.report("finetune", message, fraction=min(1.0, trainer.global_step / self._total(trainer)))

    def _say(self, trainer: Any, now: float) -> None:
        total, step = self._total(trainer), trainer.global_step
        pace = (now - self._began) / max(1, step - self._first)
        message = f"epoch {trainer.current_epoch + 1} of {self.course.plan.epochs}, {(total - step) * pace:.0f} s left"
        progress.report("finetune", message, fraction=min(1.0, step / total))

    def _total(self, trainer: Any) -> int:
        left = self.course.plan.epochs - trainer.current_epoch
        plan = self.course.plan
        done = int(self.course.curves[-1]["step"]) if self.course.curves else 0
        return int(max(1, done + left * plan.steps(self.course.data.limit or plan.batches)))
