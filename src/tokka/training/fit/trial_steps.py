"""Optimizer steps whose outcome is thrown away: for a sweep over rates, and to measure how long a step takes."""

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch

from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.setup.optimisation import make_optimizer, optimizer_step
from tokka.training.setup.precision import Precision, choose_device
from tokka.training.setup.training_setup import TrainingSetup

MEASURED_BATCHES = 5


class TrialSteps:
    """A copy of the model with an optimizer of its own; weights, gradients and optimizer of the training stay."""

    def __init__(self, setup: TrainingSetup) -> None:
        params = setup.params.finetuning.model_copy(update={"learning_rate": 1.0})
        self.data = setup.data
        self.module = FinetuningModule(copy.deepcopy(setup.model), params, setup.prepared.task, setup.class_weights)
        self.module.to(choose_device()).train()
        self._optimizer = make_optimizer(self.module.model, params)

    def step(self, rows: Sequence[int], precision: Precision, rate: float = 0.0) -> float:
        """The loss of one step on these training rows at a learning rate, at 0 of which the weights stay."""
        batch = self.data.collate(self.data.train, list(rows))
        batch = {name: value.to(choose_device()) for name, value in batch.items()}
        loss = optimizer_step(
            self._optimizer, lambda: self.module.loss(batch), factor=rate,
            clip=self.module.params.gradient_clip, precision=precision,
        )  # fmt: skip
        if choose_device() == "cuda":
            torch.cuda.synchronize()
        return loss


def spread_batches(setup: TrainingSetup, count: int) -> list[list[int]]:
    """So many batches of the first epoch, evenly from its first to its last; those of rank 0."""
    batches = list(setup.data.batches(0))
    return [batches[place] for place in np.linspace(0, len(batches) - 1, count).astype(int)]


def seconds_per_token(setup: TrainingSetup) -> float:
    """The mean over whole optimizer steps; the first, which allocates memory and compiles kernels, is left out."""
    steps, lengths, paces = TrialSteps(setup), setup.data.train.lengths, []
    for rows in spread_batches(setup, MEASURED_BATCHES + 1):
        began = time.monotonic()
        steps.step(rows, setup.precision)
        paces.append((time.monotonic() - began) / (len(rows) * lengths[rows].max()))
    return float(np.mean(paces[1:]))
