"""`finetuning.learning_rate: auto`: a sweep over rates on a copy of the model (Smith, 2017), once per training."""

from pathlib import Path

import numpy as np
import torch

from tokka import files, progress
from tokka.training.fit.lightning_module import step_seed
from tokka.training.fit.out_of_memory import RATE, translate_errors
from tokka.training.fit.trial_steps import TrialSteps
from tokka.training.setup.training_setup import TrainingSetup

STEPS = 30
SWEPT = (1e-6, 1.0)
# What no sweep may leave: below, nothing is learned in a few epochs; above, no transformer has trained well.
BOUNDS = (1e-5, 2e-3)
SMOOTHING = 0.8
DIVERGED = 3.0


def resolve_learning_rate(setup: TrainingSetup, work: Path) -> None:
    """Put a number in the place of `auto` in the setup's params: the one kept in `work`, or by a sweep now.

    The sweep depends on the seed and the rows alone. OutOfMemory when a batch did not fit.
    """
    if setup.params.finetuning.learning_rate != "auto":
        return
    if not (work / RATE).is_file():
        with translate_errors(setup), torch.random.fork_rng():
            rates, losses = sweep(setup)
        files.write_json(work / RATE, {"learning_rate": pick_rate(rates, losses)})
    rate = float(files.read_json(work / RATE)["learning_rate"])
    progress.report("finetune", f"learning rate {rate:.2g}, found by a range test")
    setup.adjust(learning_rate=rate)


def sweep(setup: TrainingSetup) -> tuple[list[float], list[float]]:
    """Rates and the training loss of one batch at each, up to the rate where training diverges; the model stays."""
    steps, batches = TrialSteps(setup), list(setup.data.batches(0))
    rates, losses = np.geomspace(*SWEPT, STEPS).tolist(), list[float]()
    for number, rate in enumerate(rates):
        torch.manual_seed(step_seed(setup.params.finetuning.seed, number))
        losses.append(steps.step(batches[number % len(batches)], setup.precision, rate))
        if not np.isfinite(losses[-1]) or losses[-1] > DIVERGED * max(losses[0], 0.1):
            break
    return rates[: len(losses)], losses


def pick_rate(rates: list[float], losses: list[float]) -> float:
    """A tenth of the rate at which the smoothed loss is least, within BOUNDS.

    Only losses before the first that is not finite count; with fewer than two of them it is the lower bound.
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    if end < 2:
        return BOUNDS[0]
    import pandas as pd

    # The first losses weigh no more than others: the mean is divided by the weights that it has so far.
    smooth = pd.Series(losses[:end]).ewm(alpha=1 - SMOOTHING, adjust=True).mean()
    return float(np.clip(rates[int(np.argmin(smooth))] / 10, *BOUNDS))
