"""`finetuning.learning_rate: auto`: a sweep over rates on a copy of the model (Smith, 2017), once per training."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokka import files, progress
from tokka.training.fit.lightning_module import FinetuningModule, step_seed
from tokka.training.fit.out_of_memory import RATE, explained
from tokka.training.setup.job import Job
from tokka.training.setup.optimisation import make_optimizer
from tokka.training.setup.precision import choose_device

STEPS = 30
SWEPT = (1e-6, 1.0)
# What no sweep may leave: below, nothing is learned in a few epochs; above, no transformer has trained well.
BOUNDS = (1e-5, 2e-3)
SMOOTHING = 0.8
DIVERGED = 3.0


def resolve_learning_rate(job: Job, work: Path) -> None:
    """Put a number in the place of `auto` in the job's params: the one found before, or by a sweep now.

    The sweep depends on the seed and the rows alone; its result is kept in `work`, so that a resumed training uses it.

    Raises:
        OutOfMemory: a batch did not fit.
    """
    if job.params.finetuning.learning_rate != "auto":
        return
    if not (work / RATE).is_file():
        with explained(job), torch.random.fork_rng():
            rates, losses = sweep(job)
        files.write_json(work / RATE, {"learning_rate": pick_rate(rates, losses)})
    rate = float(files.read_json(work / RATE)["learning_rate"])
    progress.report("finetune", f"learning rate {rate:.2g}, found by a range test")
    job.adjust(learning_rate=rate)


def sweep(job: Job) -> tuple[list[float], list[float]]:
    """Rates and the training loss of one batch at each, up to the rate where training diverges; the model stays."""
    params = job.params.finetuning.model_copy(update={"learning_rate": 1.0})
    module = FinetuningModule(copy.deepcopy(job.model), params, job.prepared.task, 0, job.class_weights)
    module.to(choose_device()).train()
    optimizer = make_optimizer(module.model, params)
    batches = list(job.data.batches(0))
    rates, losses = np.geomspace(*SWEPT, STEPS).tolist(), list[float]()
    for step, rate in enumerate(rates):
        torch.manual_seed(step_seed(params.seed, step))
        numbers = batches[step % len(batches)]
        batch = {name: value.to(choose_device()) for name, value in job.data.collate(job.data.train, numbers).items()}
        losses.append(_step(module, optimizer, batch, rate, autocast=job.precision == "bf16-mixed"))
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
    smooth, mean = [], 0.0
    for step, loss in enumerate(losses[:end], start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth.append(mean / (1 - SMOOTHING**step))
    return float(np.clip(rates[int(np.argmin(smooth))] / 10, *BOUNDS))


def _step(
    module: FinetuningModule, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], rate: float, *, autocast: bool
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * rate
    optimizer.zero_grad()
    with torch.autocast(choose_device(), dtype=torch.bfloat16, enabled=autocast):
        loss = module.loss(batch)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(module.model.parameters(), module.params.gradient_clip)
    optimizer.step()
    return float(loss.detach())
