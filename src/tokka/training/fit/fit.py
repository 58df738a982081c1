"""Run Lightning's trainer over a setup: within the budget, resumable, and silent but for our own progress."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file

from tokka import files, progress
from tokka.model.engines import Floats
from tokka.progress import silent
from tokka.training.fit import checkpoints
from tokka.training.fit.budget import Plan, budget_seconds, plan_steps
from tokka.training.fit.callbacks import Averaging, OnEpoch, ProgressCallback, TrainingCallback
from tokka.training.fit.ddp import launched, own_rank
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.fit.lr_finder import resolve_learning_rate
from tokka.training.fit.out_of_memory import PLAN, translate_errors
from tokka.training.fit.signals import RestoreSignalHandlers, keyboard_interrupts
from tokka.training.fit.trial_steps import seconds_per_token
from tokka.training.setup.datamodule import inputs_of
from tokka.training.setup.precision import LIGHTNING, choose_device
from tokka.training.setup.training_setup import TrainingSetup

# A forward pass over a validation token, as a share of a training token.
VALIDATION_COST = 0.35


def fit(setup: TrainingSetup, work: Path, began: float, on_epoch: OnEpoch | None = None) -> TrainingCallback:
    """Train `setup.model` in place, from `work`'s checkpoint where there is one.

    The time budget counts from `began` on `time.monotonic()`. Raises TokkaError when the loss is not finite, memory ran
    out, or the budget does not allow one step.
    """
    resolve_learning_rate(setup, work)
    setup.model.to(choose_device())
    if setup.params.finetuning.strategy == "gradual":
        # An attempt that ran out of memory may have left layers frozen: the optimizer is to know all of them.
        setup.model.requires_grad_(True)
    setup.data.rank = own_rank()
    with translate_errors(setup), _compiled(setup):
        return _fit(setup, work, began, on_epoch)


def _fit(setup: TrainingSetup, work: Path, began: float, on_epoch: OnEpoch | None) -> TrainingCallback:
    resumed = checkpoints.find_checkpoint(work)
    plan = _plan(setup, work, began, resumed is not None)
    module, decay = make_module(setup), setup.params.finetuning.ema
    averaging = Averaging(decay) if decay else None
    seconds = budget_seconds(setup.params.finetuning)
    left = None if seconds is None else seconds - (time.monotonic() - began)
    training = TrainingCallback(module, setup.data, plan, work, left, averaging, on_epoch)
    if resumed:
        progress.report("finetune", "going on from the checkpoint of an interrupted training")
    with launched(setup, work), silent(), keyboard_interrupts():
        # The average first: the training callback keeps what it holds after the epoch's last step.
        averages = [averaging] if averaging else []
        callbacks = [*averages, RestoreSignalHandlers(), ProgressCallback(training), training]
        trainer = _make_trainer(setup, plan, callbacks)
        trainer.fit(module, datamodule=setup.data, ckpt_path=resumed, weights_only=True)
    if own_rank():
        return training  # what is done with the weights is rank 0's affair
    if training.use_best():
        setup.model.load_state_dict(load_file(work / checkpoints.BEST))
    elif averaging:
        setup.model.load_state_dict(training.weights())
    return training


def make_module(setup: TrainingSetup) -> FinetuningModule:
    """The training step for this setup."""
    return FinetuningModule(setup.model, setup.params.finetuning, setup.prepared.task, setup.class_weights)


def predict_outputs(setup: TrainingSetup) -> Floats:
    """Outputs (rows, labels or 1) for the validation rows in float32, without dropout."""
    model, data = setup.model.cpu().eval(), setup.data
    found = np.empty((len(data.validation.ids), model.head.linear.out_features), dtype=np.float32)
    with torch.inference_mode():
        for batch in data.val_dataloader():
            found[batch["row"].numpy()] = model(**inputs_of(batch))[0].numpy()
    return found


def _make_trainer(setup: TrainingSetup, plan: Plan, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A trainer that does nothing on the side: no logger, no bars, no sanity check, no summary."""
    params, device = setup.params.finetuning, choose_device()
    strategy: str | DDPStrategy = "auto"
    if params.ranks > 1:
        # Gradients are averaged over the processes; a layer that is still frozen gives none, and is not waited for.
        gradual = params.strategy == "gradual"
        backend = "nccl" if device == "cuda" else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=gradual)
    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=params.devices,
        num_nodes=params.nodes,
        strategy=strategy,
        precision=LIGHTNING[setup.precision],
        max_epochs=plan.epochs,
        accumulate_grad_batches=plan.accumulate,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[checkpoints.WholeOrAbsent(), *([LightningEnvironment()] if params.ranks > 1 else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _plan(setup: TrainingSetup, work: Path, began: float, resumed: bool) -> Plan:
    """The plan of the interrupted training, or a new one, which is kept."""
    if (resumed or own_rank()) and (work / PLAN).is_file():
        return Plan(**files.read_json(work / PLAN))
    params, batches = setup.params.finetuning, len(setup.data.batches(0))
    plan = Plan(epochs=params.epochs, batches=batches, accumulate=params.accumulate)
    seconds = budget_seconds(params)
    if seconds is not None:
        pace = seconds_per_token(setup)
        plan = plan_steps(
            epochs=params.epochs,
            batches=batches,
            seconds=seconds - (time.monotonic() - began),
            batch_seconds=pace * setup.data.batches(0).tokens() / batches,
            accumulate=params.accumulate,
            validation_seconds=pace * VALIDATION_COST * int(setup.data.validation.lengths.sum()),
        )
        share = plan.epochs * plan.batches / (params.epochs * batches)
        progress.report("finetune", f"{plan.total} steps fit into {params.time_budget} ({share:.0%} of all)")
    files.write_json(work / PLAN, asdict(plan))
    return plan


@contextmanager
def _compiled(setup: TrainingSetup) -> Iterator[None]:
    """Compile the encoder in place while it trains: its weights keep their names, and export sees the plain network."""
    encoder = setup.model.encoder
    if setup.params.finetuning.compile:
        encoder.compile(dynamic=True)
    try:
        yield
    finally:
        encoder._compiled_call_impl = None  # torch has no public way back
