"""Exhausted memory: smaller batches, more of them per optimizer step."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from tokka import files, progress
from tokka.errors import TokkaError

if TYPE_CHECKING:
    from tokka.training.setup.training_setup import TrainingSetup

BATCH = "batch.json"
# What a training leaves in its work folder; with other batches it means nothing.
PLAN, RATE = "plan.json", "learning_rate.json"
Result = TypeVar("Result")


class OutOfMemory(TokkaError):
    """A batch did not fit."""


def with_smaller_batches(setup: "TrainingSetup", work: Path, attempt: Callable[[], Result]) -> Result:
    """The result of `attempt`; when memory runs out, it starts anew with half the batch, twice as often a step.

    It starts from the first weights, so that the outcome is that of a training which was asked for these batches. The
    size is kept in `work`. OutOfMemory when one row at a time does not fit either.
    """
    asked = setup.params.finetuning.learning_rate
    initial = {name: value.detach().cpu().clone() for name, value in setup.model.state_dict().items()}
    if (work / BATCH).is_file():
        kept = files.read_json(work / BATCH)
        setup.adjust(batch_size=kept["batch_size"], accumulate=kept["accumulate"])
    while True:
        try:
            return attempt()
        except OutOfMemory:
            if setup.params.finetuning.batch_size == 1:
                raise
        # Out of the except clause: its traceback holds the tensors that did not fit.
        setup.model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        _halve(setup, work, asked)
        setup.model.load_state_dict(initial)


@contextmanager
def translate_errors(
    setup: "TrainingSetup", section: Literal["finetuning", "adaptation"] = "finetuning"
) -> Iterator[None]:
    """Turn an exhausted memory (OutOfMemory), a failing compiler or a full disk (TokkaError) into a sentence."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        # In the words of Python, CUDA or torch's processor allocator.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            size = getattr(setup.params, section).batch_size
            hint = "a smaller model.max_tokens, finetuning.strategy partial or lora, or a smaller base model needs less"
            if section == "adaptation":  # nobody halves its batches
                hint = f"try --set adaptation.batch_size={max(2, size // 2)}"
            raise OutOfMemory(f"memory ran out with {section}.batch_size {size}", hint) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise TokkaError(
                f"torch.compile failed: {str(error).splitlines()[0]}", "set finetuning.compile: false"
            ) from None
        if isinstance(error, OSError) or "PytorchStreamWriter" in str(error):
            raise TokkaError(f"training could not write its checkpoint: {error}", "free some disk space") from None
        raise


def _halve(setup: "TrainingSetup", work: Path, rate: float | Literal["auto"]) -> None:
    """Forget what was done with the large batches, then note the smaller ones: a kill in between loses nothing.

    The learning rate is the one that was asked for: what a sweep found, it found with the large batches.
    """
    from tokka.training.fit import checkpoints

    params = setup.params.finetuning
    size, accumulate = params.batch_size // 2, params.accumulate * 2
    progress.report(
        "finetune",
        f"memory ran out with batches of {params.batch_size}: starting again with {size}, "
        f"{accumulate} of them per optimizer step",
    )
    for name in (checkpoints.LAST, checkpoints.BEST, PLAN, RATE):
        (work / name).unlink(missing_ok=True)
    files.write_json(work / BATCH, {"batch_size": size, "accumulate": accumulate})
    setup.adjust(batch_size=size, accumulate=accumulate, learning_rate=rate)
    setup.data.limit = None  # it counted large batches
