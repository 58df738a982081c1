"""Exhausted memory: smaller batches, more of them per optimizer step, and a word about it."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import torch

from tokka import files, progress
from tokka.errors import TokkaError
from tokka.training.fit import checkpoints
from tokka.training.setup.job import Job

BATCH = "batch.json"
# What a training leaves in its work folder; with other batches it means nothing.
PLAN, RATE = "plan.json", "learning_rate.json"
Result = TypeVar("Result")


class OutOfMemory(TokkaError):
    """A batch did not fit."""


def within_memory(job: Job, work: Path, attempt: Callable[[], Result]) -> Result:
    """The result of `attempt`; when memory runs out, it starts anew with half the batch, twice as often a step.

    It starts from the first weights, so that the outcome is that of a training which was asked for these batches. The
    size is kept in `work`: a resumed training does not try the larger one again.

    Raises:
        OutOfMemory: one row at a time does not fit either.
    """
    asked = job.params.finetuning.learning_rate
    initial = {name: value.detach().cpu().clone() for name, value in job.model.state_dict().items()}
    if (work / BATCH).is_file():
        job.adjust(**files.read_json(work / BATCH))
    while True:
        try:
            return attempt()
        except OutOfMemory:
            if job.params.finetuning.batch_size == 1:
                raise
        # Out of the except clause: its traceback holds the tensors that did not fit.
        _free(job)
        _halve(job, work, asked)
        job.model.load_state_dict(initial)


@contextmanager
def explained(job: Job) -> Iterator[None]:
    """Turn an exhausted memory, a failing compiler or a full disk into a sentence.

    Raises:
        OutOfMemory: memory ran out.
        TokkaError: torch.compile failed, or the checkpoint could not be written.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise OutOfMemory(
                f"memory ran out with finetuning.batch_size {job.params.finetuning.batch_size}",
                "a smaller model.max_tokens, finetuning.strategy partial or lora, or a smaller base model needs less",
            ) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise TokkaError(
                f"torch.compile failed: {str(error).splitlines()[0]}", "set finetuning.compile: false"
            ) from None
        if isinstance(error, OSError) or "PytorchStreamWriter" in str(error):
            raise TokkaError(f"training could not write its checkpoint: {error}", "free some disk space") from None
        raise


def _free(job: Job) -> None:
    job.model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _halve(job: Job, work: Path, rate: float | Literal["auto"]) -> None:
    """Forget what was done with the large batches, then note the smaller ones: a kill in between loses nothing.

    The learning rate is again the one that was asked for: what a sweep found, it found with the large batches.
    """
    params = job.params.finetuning
    smaller = {"batch_size": params.batch_size // 2, "accumulate": params.accumulate * 2}
    progress.report(
        "finetune",
        f"memory ran out with batches of {params.batch_size}: starting again with {smaller['batch_size']}, "
        f"{smaller['accumulate']} of them per optimizer step",
    )
    for name in (checkpoints.LAST, checkpoints.BEST, PLAN, RATE):
        (work / name).unlink(missing_ok=True)
    files.write_json(work / BATCH, smaller)
    job.adjust(**smaller, learning_rate=rate)
    job.data.limit = None  # it counted large batches
