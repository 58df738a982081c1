"""Practice before fine-tuning: the encoder reads the domain's texts, without labels, for `adaptation.epochs`.

    practised = adapt(job, work)          # None when adaptation.method is none: nothing is done, nothing is drawn

What came of it is kept in `work` as safetensors: a training that is killed later finds it there; one that is killed
during the practice starts the practice again. Every draw depends on the seed and the step's number alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokka import files, progress
from tokka.errors import Refused, TokkaError
from tokka.model.tokenising import Ids, pad
from tokka.training.adaptation_losses import ContrastiveLoss, MaskedLoss
from tokka.training.setup.batches import LengthBatches
from tokka.training.setup.job import Job
from tokka.training.setup.optimisation import Schedule

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


def adapt(job: Job, work: Path) -> Practice | None:
    """Practise with `job.model.encoder` in place, or take what an interrupted training has left in `work`.

    Raises:
        TokkaError: the loss is not finite, there are too few texts, or memory ran out.
        Refused: `mlm` with a tokenizer that has no mask token.
    """
    if job.params.adaptation.method == "none":
        return None
    if (kept := _kept(job, work)) is not None:
        progress.report("finetune", "the practice of an interrupted training is used")
        return kept
    with torch.random.fork_rng(), _trainable(job.model.encoder), _explained(job):
        practice = _practise(job)
    _keep(job, work, practice)
    return practice


def _practise(job: Job) -> Practice:
    began, cpu_began = time.monotonic(), time.process_time()
    params, seed = job.params.adaptation, job.params.finetuning.seed
    if len(job.unlabelled.ids) < 2:
        raise TokkaError("adaptation needs two texts or more that are not in the test or validation split", "more data")
    torch.manual_seed(step_seed(seed, 0))
    device = job.model.head.linear.weight.device
    loss_of = _loss(job).to(device)
    batches = [batch for epoch in range(params.epochs) for batch in _batches(job, epoch)]
    optimizer = _optimizer(job, loss_of)
    schedule = Schedule.linear(len(batches), WARMUP_SHARE)
    job.model.train()
    losses: list[float] = []
    for step, rows in _spoken(batches, losses, params.method):
        torch.manual_seed(step_seed(seed, step))
        for group in optimizer.param_groups:
            group["lr"] = group["base_rate"] * schedule.factor(step)
        losses.append(_step(job, loss_of, optimizer, [job.unlabelled.ids[row] for row in rows]))
    tenth = max(1, len(losses) // 10)
    return Practice(
        texts=len(job.unlabelled.ids),
        steps=len(losses),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        loss_first=float(np.mean(losses[:tenth])),
        loss_last=float(np.mean(losses[-tenth:])),
    )


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for every step of the practice, the same in every process."""
    return int(np.random.SeedSequence([seed, STREAM, step]).generate_state(1)[0])


def _loss(job: Job) -> nn.Module:
    params = job.params.adaptation
    if params.method == "contrastive":
        return ContrastiveLoss(job.model, params.temperature)
    if job.unlabelled.mask is None:
        raise Refused(
            "adaptation.method: mlm needs a tokenizer with a mask token", "use adaptation.method: contrastive"
        )
    return MaskedLoss(job.model, job.unlabelled.mask, torch.from_numpy(job.unlabelled.special), params.mask_share)


def _batches(job: Job, epoch: int) -> Iterator[list[int]]:
    """Texts of like length together; a text alone has nothing to be told from."""
    lengths = np.asarray([len(ids) for ids in job.unlabelled.ids])
    size, seed = job.params.adaptation.batch_size, job.params.finetuning.seed
    return (batch for batch in LengthBatches(lengths, batch_size=size, seed=seed, epoch=epoch) if len(batch) > 1)


def _optimizer(job: Job, loss_of: nn.Module) -> torch.optim.AdamW:
    """AdamW over the encoder and what the loss brings; as in fine-tuning, biases, norms and embeddings do not decay."""
    rate, groups = job.params.adaptation.learning_rate, []
    for module, factor in ((job.model.encoder, 1.0), (loss_of, NEW_RATE)):
        for decays in (True, False):
            chosen = [
                parameter
                for name, parameter in module.named_parameters()
                if parameter.requires_grad and (parameter.ndim > 1 and "embedding" not in name.lower()) == decays
            ]
            decay = WEIGHT_DECAY if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "base_rate": rate * factor, "lr": 0.0, "weight_decay": decay})
    return torch.optim.AdamW(groups, fused=True)


def _step(job: Job, loss_of: nn.Module, optimizer: torch.optim.AdamW, rows: list[Ids]) -> float:
    device = job.model.head.linear.weight.device
    inputs: list[Tensor] = [torch.from_numpy(array).to(device) for array in pad(rows, job.vocabulary.padding)]
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=job.precision == "bf16-mixed"):
        loss = loss_of(*inputs)
    if not bool(torch.isfinite(loss)):
        rate = job.params.adaptation.learning_rate
        raise TokkaError(
            f"the loss of the adaptation is {float(loss.detach())}", f"lower adaptation.learning_rate ({rate:g})"
        )
    loss.backward()
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(moved, job.params.finetuning.gradient_clip)
    optimizer.step()
    return float(loss.detach())


def _spoken(batches: list[list[int]], losses: list[float], method: str) -> Iterator[tuple[int, list[int]]]:
    """Number the steps from 1, and say now and then how far they are."""
    spoken = time.monotonic()
    for step, batch in enumerate(batches, start=1):
        if time.monotonic() - spoken > REPORT_SECONDS:
            spoken = time.monotonic()
            message = f"adaptation ({method}): step {step} of {len(batches)}, loss {np.mean(losses[-20:]):.3f}"
            progress.report("finetune", message, fraction=step / len(batches))
        yield step, batch


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


@contextmanager
def _explained(job: Job) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        size = job.params.adaptation.batch_size
        hint = f"try --set adaptation.batch_size={max(2, size // 2)}"
        raise TokkaError(f"memory ran out with adaptation.batch_size {size}", hint) from None


def _keep(job: Job, work: Path, practice: Practice) -> None:
    """Weights first, facts last: where the facts are, the weights are whole."""
    from safetensors.torch import save

    work.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in job.model.encoder.state_dict().items()}
    files.write_bytes(work / ADAPTED, save(state))
    files.write_json(work / FACTS, vars(practice))


def _kept(job: Job, work: Path) -> Practice | None:
    from safetensors.torch import load_file

    if not (work / FACTS).is_file() or not (work / ADAPTED).is_file():
        return None
    try:
        state: Any = load_file(work / ADAPTED)
        job.model.encoder.load_state_dict(state)
    except Exception:  # a damaged file raises many kinds; all mean that the practice has to be done again
        return None
    return Practice(**files.read_json(work / FACTS))
