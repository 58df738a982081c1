"""Run Lightning's trainer over a job: within the budget, resumable, and silent but for our own progress."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from tokka import files, progress
from tokka.params import Finetuning
from tokka.training.fit import checkpoints
from tokka.training.fit.budget import Plan, budget_seconds, plan_steps
from tokka.training.fit.callbacks import Course, OnEpoch, Speaker
from tokka.training.fit.ddp import launched, own_rank
from tokka.training.fit.ema import Averaging
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.fit.lr_finder import resolve_learning_rate
from tokka.training.fit.out_of_memory import PLAN, explained
from tokka.training.fit.signals import PlainSignals, keyboard_interrupts
from tokka.training.setup.datamodule import inputs_of
from tokka.training.setup.job import Job
from tokka.training.setup.optimisation import make_optimizer
from tokka.training.setup.precision import choose_device

MEASURED_BATCHES = 5
# A forward pass over a validation token, as a share of a training token.
VALIDATION_COST = 0.35


def fit(job: Job, work: Path, began: float, on_epoch: OnEpoch | None = None) -> Course:
    """Train `job.model` in place, from `work`'s checkpoint where there is one.

    Args:
        job: the model and its rows.
        work: a folder that outlives this process.
        began: `time.monotonic()` when the fine-tuning started: the time budget counts from there.
        on_epoch: as in `train`.

    Raises:
        TokkaError: the loss is not finite, memory ran out, or the budget does not allow one step.
    """
    resolve_learning_rate(job, work)
    job.model.to(choose_device())
    if job.params.finetuning.strategy == "gradual":
        # An attempt that ran out of memory may have left layers frozen: the optimizer is to know all of them.
        job.model.requires_grad_(True)
    job.data.rank = own_rank()
    with explained(job), _compiled(job):
        return _fit(job, work, began, on_epoch)


def _fit(job: Job, work: Path, began: float, on_epoch: OnEpoch | None) -> Course:
    resumed = checkpoints.find_checkpoint(work)
    plan = _plan(job, work, began, resumed is not None)
    module, decay = make_module(job), job.params.finetuning.ema
    averaging = Averaging(decay) if decay else None
    seconds = budget_seconds(job.params.finetuning)
    left = None if seconds is None else seconds - (time.monotonic() - began)
    course = Course(module, job.data, plan, work, left, averaging)
    course.on_epoch = on_epoch
    if resumed:
        progress.report("finetune", "going on from the checkpoint of an interrupted training")
    with launched(job, work), _quiet(), keyboard_interrupts():
        # The average first: the course keeps what it holds after the epoch's last step.
        callbacks = [*([averaging] if averaging else []), PlainSignals(), Speaker(course), course]
        trainer = make_trainer(job, plan, callbacks)
        trainer.fit(module, datamodule=job.data, ckpt_path=resumed, weights_only=True)
    if own_rank():
        return course  # what is done with the weights is rank 0's affair
    if course.use_best():
        job.model.load_state_dict(checkpoints.load_best(work))
    elif averaging:
        job.model.load_state_dict(course.weights())
    return course


def make_module(job: Job) -> FinetuningModule:
    """The training step for this job."""
    rows = len(job.validation.ids)
    return FinetuningModule(job.model, job.params.finetuning, job.prepared.task, rows, job.class_weights)


def make_trainer(job: Job, plan: Plan, callbacks: list[Any]) -> Any:
    """A trainer that does nothing on the side: no logger, no bars, no sanity check, no summary."""
    devices = job.params.finetuning.devices
    return pl.Trainer(
        accelerator="gpu" if choose_device() == "cuda" else "cpu",
        devices=devices,
        strategy=together(job.params.finetuning) if devices > 1 else "auto",
        precision=job.precision,
        max_epochs=plan.epochs,
        accumulate_grad_batches=plan.accumulate,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[checkpoints.WholeOrAbsent(), *([LightningEnvironment()] if devices > 1 else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=None,
    )


def together(params: Finetuning) -> Any:
    """Gradients averaged over the processes; a layer that is still frozen gives none, and nobody waits for it."""
    backend = "nccl" if choose_device() == "cuda" else "gloo"
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=params.strategy == "gradual")


def _plan(job: Job, work: Path, began: float, resumed: bool) -> Plan:
    """The plan of the interrupted training, or a new one."""
    if (resumed or own_rank()) and (work / PLAN).is_file():
        return Plan(**files.read_json(work / PLAN))
    params, batches = job.params.finetuning, len(job.data.batches(0))
    plan = Plan(epochs=params.epochs, batches=batches, full=batches, accumulate=params.accumulate)
    seconds = budget_seconds(params)
    if seconds is not None:
        pace = seconds_per_token(job)
        tokens = job.data.batches(0).tokens()
        plan = plan_steps(
            epochs=params.epochs,
            batches=batches,
            seconds=seconds - (time.monotonic() - began),
            batch_seconds=pace * tokens / batches,
            accumulate=params.accumulate,
            validation_seconds=pace * VALIDATION_COST * int(job.data.validation.lengths.sum()),
        )
        share = plan.epochs * plan.batches / (params.epochs * batches)
        progress.report("finetune", f"{plan.total} steps fit into {params.time_budget} ({share:.0%} of all)")
    files.write_json(work / PLAN, asdict(plan))
    return plan


def seconds_per_token(job: Job) -> float:
    """Measure whole optimizer steps at a learning rate of zero, which leave the weights as they are."""
    module = make_module(job).to(choose_device())
    optimizer = make_optimizer(job.model, job.params.finetuning)
    batches = list(job.data.batches(0))
    chosen = [batches[index] for index in np.linspace(0, len(batches) - 1, MEASURED_BATCHES + 1).astype(int)]
    paces = []
    for numbers in chosen:
        began = time.monotonic()
        batch = {name: value.to(choose_device()) for name, value in job.data.collate(job.data.train, numbers).items()}
        _idle_step(module, optimizer, batch, job.precision == "bf16-mixed")
        if choose_device() == "cuda":
            torch.cuda.synchronize()
        paces.append((time.monotonic() - began) / batch["input_ids"].numel())
    job.model.zero_grad(set_to_none=True)
    # The first step allocates memory and compiles kernels: it says nothing about the others.
    return float(np.mean(paces[1:]))


def _idle_step(module: FinetuningModule, optimizer: Any, batch: dict[str, Tensor], autocast: bool) -> None:
    optimizer.zero_grad()
    with torch.autocast(choose_device(), dtype=torch.bfloat16, enabled=autocast):
        loss = module.loss(batch)
    torch.autograd.backward(loss)
    optimizer.step()


def predict_outputs(job: Job) -> Any:
    """Outputs (rows, labels or 1) for the validation rows in float32, without dropout."""
    model, data = job.model.cpu().eval(), job.data
    found = np.empty((len(data.validation.ids), model.head.linear.out_features), dtype=np.float32)
    with torch.inference_mode():
        for batch in data.val_dataloader():
            found[batch["row"].numpy()] = model(**inputs_of(batch))[0].numpy()
    return found


@contextmanager
def _compiled(job: Job) -> Iterator[None]:
    """Compile the encoder in place while it trains: its weights keep their names, and export sees the plain network."""
    encoder = job.model.encoder
    if job.params.finetuning.compile:
        encoder.compile(dynamic=True)
    try:
        yield
    finally:
        encoder._compiled_call_impl = None  # torch has no public way back


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is for people who write its calls, not for ours."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
