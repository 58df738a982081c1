"""The training itself: head first, then the network, then the weights that are kept."""

import time
from dataclasses import dataclass
from pathlib import Path

from tokka import progress
from tokka.model.engines import Floats
from tokka.training.adaptation import adapt
from tokka.training.fit.callbacks import Curve, OnEpoch
from tokka.training.fit.fit import fit, predict_outputs
from tokka.training.fit.out_of_memory import translate_errors, with_smaller_batches
from tokka.training.fit.precision_timing import resolve_precision
from tokka.training.setup.optimisation import known_rate
from tokka.training.setup.precision import choose_device
from tokka.training.setup.training_setup import TrainingSetup
from tokka.training.setup.warm_start import fit_head


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the weights in `setup.model`, which have their full vocabulary again.

    outputs: (validation rows, labels or 1). curves: one entry per epoch. facts: flat figures.
    """

    outputs: Floats
    curves: list[Curve]
    facts: dict[str, float]


def train(setup: TrainingSetup, work: Path, on_epoch: OnEpoch | None = None) -> Trained:
    """Practise on unlabelled texts, warm-start the head, fine-tune, keep the better of last and best epoch.

    Args:
        setup: the model and its rows.
        work: a folder that outlives this process.
        on_epoch: gets each epoch's entry of the curves; what it raises ends the training.

    Raises:
        TokkaError: the loss is not finite, memory ran out, or the time budget does not allow one step.
    """
    began, cpu_began, params = time.monotonic(), time.process_time(), setup.params.finetuning
    setup.model.to(choose_device())
    resolve_precision(setup, work)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    practice, head = adapt(setup, work), _fit_head(setup)
    seconds, cpu_seconds = seconds + head[0], cpu_seconds + head[1]
    facts, curves = {"head_cpu_seconds": head[1]}, list[Curve]()
    # A linear head on a frozen encoder is convex: what was fitted is the optimum, there is nothing to descend.
    if params.strategy != "frozen":
        done = with_smaller_batches(setup, work, lambda: fit(setup, work, began, on_epoch)).progress
        curves, seconds, cpu_seconds = done.curves, seconds + done.seconds, cpu_seconds + done.cpu_seconds
        params = setup.params.finetuning
        facts |= {"learning_rate": known_rate(params), "batch_size": float(params.batch_size)}
    if setup.adapters is not None:
        setup.adapters.merge_and_unload()
    outputs = predict_outputs(setup)
    setup.vocabulary.restore(setup.model.encoder)
    if practice:
        facts |= practice.facts()
        seconds, cpu_seconds = seconds + practice.seconds, cpu_seconds + practice.cpu_seconds
    facts |= {
        "epochs": float(len(curves)),
        "steps": curves[-1]["step"] if curves else 0.0,
        "train_rows": float(len(setup.data.train.ids)),
        # A resumed training counts all its parts.
        "training_seconds": seconds,
        "training_cpu_seconds": cpu_seconds,
    }
    return Trained(outputs, curves, facts)


def _fit_head(setup: TrainingSetup) -> tuple[float, float]:
    """Fit the head on the frozen encoder where the params say so; seconds of the wall clock and of the processor."""
    began, cpu_began, params = time.monotonic(), time.process_time(), setup.params.finetuning
    frozen = params.strategy == "frozen"
    if params.head_warm_start or frozen:
        progress.report("finetune", "fitting the head on the frozen encoder", fraction=0.02)
        with translate_errors(setup):
            fit_head(setup.model, setup.data, "32" if frozen else setup.precision)
    return time.monotonic() - began, time.process_time() - cpu_began
