"""The training itself: head first, then the network, then the weights that are kept."""

import time
from dataclasses import dataclass
from pathlib import Path

from tokka import progress
from tokka.training.engines import Floats
from tokka.training.fitting import fit, predict_outputs
from tokka.training.job import Job
from tokka.training.precision import choose_device
from tokka.training.warm_start import fit_head


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the weights in `job.model`, which have their full vocabulary again.

    outputs: (validation rows, labels or 1). curves: one entry per epoch. facts: flat figures.
    """

    outputs: Floats
    curves: list[dict[str, float]]
    facts: dict[str, float]


def train(job: Job, work: Path) -> Trained:
    """Warm-start the head, fine-tune, keep the better of last and best epoch.

    Raises:
        TokkaError: the loss is not finite, memory ran out, or the time budget does not allow one step.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    params = job.params.finetuning
    frozen = params.strategy == "frozen"
    job.model.to(choose_device())
    if params.head_warm_start or frozen:
        progress.report("finetune", "fitting the head on the frozen encoder", fraction=0.02)
        fit_head(job.model, job.data, autocast=job.precision == "bf16-mixed" and not frozen)
    head = (time.monotonic() - began, time.process_time() - cpu_began)
    # A linear head on a frozen encoder is convex: what was fitted is the optimum, there is nothing to descend.
    course = None if frozen else fit(job, work, began)
    outputs = predict_outputs(job)
    job.vocabulary.restore(job.model.encoder)
    curves = course.curves if course else []
    network = (course.seconds, course.cpu_seconds) if course else (0.0, 0.0)
    return Trained(outputs=outputs, curves=curves, facts=_facts(job, curves, head, network))


def _facts(
    job: Job, curves: list[dict[str, float]], head: tuple[float, float], network: tuple[float, float]
) -> dict[str, float]:
    """Costs as (wall seconds, processor seconds) of head and network; a resumed training counts all its parts."""
    return {
        "epochs": float(len(curves)),
        "steps": curves[-1]["step"] if curves else 0.0,
        "train_rows": float(len(job.data.train.ids)),
        "training_seconds": head[0] + network[0],
        "training_cpu_seconds": head[1] + network[1],
        "head_cpu_seconds": head[1],
    }
