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

    def step(self, rows: Sequence[int], precision: Precision, rate: float = 0.0) -> tuple[float, float]:
        """Loss and seconds of one step on these training rows at a learning rate; at 0 the weights stay."""
        began, device = time.monotonic(), choose_device()
        batch = {name: value.to(device) for name, value in self.data.collate(self.data.train, list(rows)).items()}
        clip = self.module.params.gradient_clip
        loss = optimizer_step(
            self._optimizer, lambda: self.module.loss(batch), factor=rate, clip=clip, precision=precision
        )
        if device == "cuda":
            torch.cuda.synchronize()
        return loss, time.monotonic() - began


def spread_batches(setup: TrainingSetup, count: int) -> list[list[int]]:
    """So many batches of the first epoch, evenly from its first to its last; those of rank 0."""
    batches = list(setup.data.batches(0))
    return [batches[place] for place in np.linspace(0, len(batches) - 1, count).astype(int)]


def seconds_per_token(setup: TrainingSetup) -> float:
    """The mean over whole optimizer steps; the first, which allocates memory and compiles kernels, is left out."""
    steps, lengths = TrialSteps(setup), setup.data.train.lengths
    paces = [
        steps.step(rows, setup.precision)[1] / (len(rows) * lengths[rows].max())
        for rows in spread_batches(setup, MEASURED_BATCHES + 1)
    ]
    return float(np.mean(paces[1:]))
