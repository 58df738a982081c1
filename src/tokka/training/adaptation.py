"""Practice before fine-tuning: the encoder reads the domain's texts, without labels, for `adaptation.epochs`.

What came of it is kept in `work` as safetensors: a training that is killed later finds it there; one that is killed
during the practice starts the practice again. Every draw depends on the seed and the step's number alone.
"""

import functools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tokka import files, progress
from tokka.errors import Refused, TokkaError
from tokka.model.network import as_safetensors
from tokka.model.tokenising import pad
from tokka.training.adaptation_losses import ContrastiveLoss, MaskedLoss
from tokka.training.fit.out_of_memory import translate_errors
from tokka.training.setup.batches import LengthBatches
from tokka.training.setup.optimisation import Schedule, adamw, grouped, optimizer_step
from tokka.training.setup.training_setup import TrainingSetup

ADAPTED = "adapted.safetensors"
FACTS = "adapted.json"
WEIGHT_DECAY, WARMUP_SHARE = 0.01, 0.06
# What is new beside the encoder has everything to learn.
NEW_RATE = 10.0
# Sets these draws apart from those of the fine-tuning, which has the same seed.
STREAM = 2
REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class Practice:
    """What it cost, and the mean loss in nats of the first and of the last tenth of its steps."""

    texts: int
    steps: int
    seconds: float
    cpu_seconds: float
    loss_first: float
    loss_last: float

    def facts(self) -> dict[str, float]:
        """Flat figures, each named adaptation_…."""
        return {f"adaptation_{name}": float(value) for name, value in vars(self).items()}


def adapt(setup: TrainingSetup, work: Path) -> Practice | None:
    """Practise with `setup.model.encoder` in place, or take what an interrupted training has left in `work`.

    Raises:
        TokkaError: the loss is not finite, there are too few texts, or memory ran out.
        Refused: `mlm` with a tokenizer that has no mask token.
    """
    if setup.params.adaptation.method == "none":
        return None
    if (kept := _load(setup, work)) is not None:
        progress.report("finetune", "the practice of an interrupted training is used")
        return kept
    with torch.random.fork_rng(), _trainable(setup.model.encoder), translate_errors(setup, "adaptation"):
        practice = _practise(setup)
    # Weights first, facts last: where the facts are, the weights are whole.
    work.mkdir(parents=True, exist_ok=True)
    files.write_bytes(work / ADAPTED, as_safetensors(setup.model.encoder.state_dict()))
    files.write_json(work / FACTS, vars(practice))
    return practice


def _practise(setup: TrainingSetup) -> Practice:
    began, cpu_began = time.monotonic(), time.process_time()
    params, seed = setup.params.adaptation, setup.params.finetuning.seed
    if len(setup.unlabelled.ids) < 2:
        raise TokkaError("adaptation needs two texts or more that are not in the test or validation split", "more data")
    torch.manual_seed(step_seed(seed, 0))
    device = setup.model.head.linear.weight.device
    loss_of = _loss(setup).to(device)
    batches = [batch for epoch in range(params.epochs) for batch in _batches(setup, epoch)]
    named = [(name, parameter, place) for place, module in enumerate((setup.model.encoder, loss_of))
             for name, parameter in module.named_parameters() if parameter.requires_grad]  # fmt: skip
    optimizer = adamw(grouped(named, params.learning_rate, NEW_RATE, WEIGHT_DECAY))
    schedule = Schedule.linear(len(batches), WARMUP_SHARE)
    setup.model.train()
    losses: list[float] = []
    reported = time.monotonic()
    for step, rows in enumerate(batches, start=1):
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            message = f"adaptation ({params.method}): step {step} of {len(batches)}, loss {np.mean(losses[-20:]):.3f}"
            progress.report("finetune", message, fraction=step / len(batches))
        torch.manual_seed(step_seed(seed, step))
        arrays = pad([setup.unlabelled.ids[row] for row in rows], setup.vocabulary.padding)
        inputs = [torch.from_numpy(array).to(device) for array in arrays]
        loss = optimizer_step(
            optimizer, functools.partial(loss_of, *inputs), factor=schedule.factor(step),
            clip=setup.params.finetuning.gradient_clip, precision=setup.precision,
        )  # fmt: skip
        if not math.isfinite(loss):
            hint = f"lower adaptation.learning_rate ({params.learning_rate:g})"
            raise TokkaError(f"the loss of the adaptation is {loss}", hint)
        losses.append(loss)
    tenth = max(1, len(losses) // 10)
    return Practice(
        texts=len(setup.unlabelled.ids),
        steps=len(losses),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        loss_first=float(np.mean(losses[:tenth])),
        loss_last=float(np.mean(losses[-tenth:])),
    )


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for every step of the practice, the same in every process."""
    return int(np.random.SeedSequence([seed, STREAM, step]).generate_state(1)[0])


def _loss(setup: TrainingSetup) -> nn.Module:
    params, texts = setup.params.adaptation, setup.unlabelled
    if params.method == "contrastive":
        return ContrastiveLoss(setup.model, params.temperature)
    if texts.mask is None:
        raise Refused(
            "adaptation.method: mlm needs a tokenizer with a mask token", "use adaptation.method: contrastive"
        )
    return MaskedLoss(setup.model, texts.mask, torch.from_numpy(texts.special), params.mask_share)


def _batches(setup: TrainingSetup, epoch: int) -> Iterator[list[int]]:
    """Texts of like length together; a text alone has nothing to be told from."""
    lengths = np.asarray([len(ids) for ids in setup.unlabelled.ids])
    size, seed = setup.params.adaptation.batch_size, setup.params.finetuning.seed
    return (batch for batch in LengthBatches(lengths, batch_size=size, seed=seed, epoch=epoch) if len(batch) > 1)


@contextmanager
def _trainable(encoder: nn.Module) -> Iterator[None]:
    """The whole encoder learns here, whatever the strategy freezes later; its low-rank adapters are not yet in play."""
    before = {name: parameter.requires_grad for name, parameter in encoder.named_parameters()}
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" not in name)
    try:
        yield
    finally:
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(before[name])
            parameter.grad = None


def _load(setup: TrainingSetup, work: Path) -> Practice | None:
    from safetensors.torch import load_file

    if not (work / FACTS).is_file():
        return None
    try:
        setup.model.encoder.load_state_dict(load_file(work / ADAPTED))
        return Practice(**files.read_json(work / FACTS))
    except Exception:  # a damaged file raises many kinds; all mean that the practice has to be done again
        return None
