"""The training itself: head first, then the network, then the weights that are kept."""

import time
from dataclasses import dataclass
from pathlib import Path

from tokka import progress
from tokka.model.engines import Floats
from tokka.training.adaptation import Practice, adapt
from tokka.training.fit.callbacks import OnEpoch
from tokka.training.fit.fit import fit, predict_outputs
from tokka.training.fit.out_of_memory import explained, within_memory
from tokka.training.setup.job import Job
from tokka.training.setup.optimisation import known_rate
from tokka.training.setup.precision import choose_device
from tokka.training.setup.strategies import merge_adapters
from tokka.training.setup.warm_start import fit_head


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the weights in `job.model`, which have their full vocabulary again.

    outputs: (validation rows, labels or 1). curves: one entry per epoch. facts: flat figures.
    """

    outputs: Floats
    curves: list[dict[str, float]]
    facts: dict[str, float]


def train(job: Job, work: Path, on_epoch: OnEpoch | None = None) -> Trained:
    """Practise on unlabelled texts, warm-start the head, fine-tune, keep the better of last and best epoch.

    Args:
        job: the model and its rows.
        work: a folder that outlives this process.
        on_epoch: gets each epoch's entry of the curves; what it raises ends the training.

    Raises:
        TokkaError: the loss is not finite, memory ran out, or the time budget does not allow one step.
    """
    began = time.monotonic()
    params = job.params.finetuning
    frozen = params.strategy == "frozen"
    job.model.to(choose_device())
    practice = adapt(job, work)
    head_began, head_cpu_began = time.monotonic(), time.process_time()
    if params.head_warm_start or frozen:
        progress.report("finetune", "fitting the head on the frozen encoder", fraction=0.02)
        with explained(job):
            fit_head(job.model, job.data, autocast=job.precision == "bf16-mixed" and not frozen)
    head = (time.monotonic() - head_began, time.process_time() - head_cpu_began)
    # A linear head on a frozen encoder is convex: what was fitted is the optimum, there is nothing to descend.
    course = None if frozen else within_memory(job, work, lambda: fit(job, work, began, on_epoch))
    if job.adapters is not None:
        merge_adapters(job.adapters)
    outputs = predict_outputs(job)
    job.vocabulary.restore(job.model.encoder)
    curves = course.curves if course else []
    network = (course.seconds, course.cpu_seconds) if course else (0.0, 0.0)
    return Trained(outputs=outputs, curves=curves, facts=_facts(job, curves, head, network, practice))


def _facts(
    job: Job,
    curves: list[dict[str, float]],
    head: tuple[float, float],
    network: tuple[float, float],
    practice: Practice | None,
) -> dict[str, float]:
    """Costs as (wall seconds, processor seconds) of head and network; a resumed training counts all its parts."""
    params = job.params.finetuning
    found = {"learning_rate": known_rate(params), "batch_size": float(params.batch_size)} if curves else {}
    before = (practice.seconds, practice.cpu_seconds) if practice else (0.0, 0.0)
    return {
        **found,
        **(practice.facts() if practice else {}),
        "epochs": float(len(curves)),
        "steps": curves[-1]["step"] if curves else 0.0,
        "train_rows": float(len(job.data.train.ids)),
        "training_seconds": before[0] + head[0] + network[0],
        "training_cpu_seconds": before[1] + head[1] + network[1],
        "head_cpu_seconds": head[1],
    }
