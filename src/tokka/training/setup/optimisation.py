"""What the optimizer is told: which parameters move, at which rate, and how the rate runs over the steps."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tokka.model.network import Specialist, encoder_layers
from tokka.sections import Finetuning
from tokka.training.setup.augmentation import training_dropout
from tokka.training.setup.precision import Precision, autocast

# Straight pieces of a falling cosine: with 64 the factor is at most 2e-4 from the curve.
COSINE_PIECES = 64


@dataclass(frozen=True)
class Schedule:
    """The learning rate's factor as straight lines between points (step, factor); steps count from 1.

    `shortened` bends what is left of it so that it still ends at zero, when time runs out sooner than planned.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def linear(cls, total: int, warmup_share: float) -> "Schedule":
        """Up from zero over the share of steps, down to zero right after step `total`."""
        top = max(1.0, round(total * warmup_share))
        return cls(points=((0.0, 0.0), (min(top, total), 1.0), (total + 1.0, 0.0)))

    @classmethod
    def cosine(cls, total: int, warmup_share: float) -> "Schedule":
        """Up as in `linear`, then down along half a cosine (Loshchilov & Hutter, 2017), in straight pieces."""
        start, (top, _), (end, _) = cls.linear(total, warmup_share).points
        shares = [piece / COSINE_PIECES for piece in range(1, COSINE_PIECES)]
        fall = [(top + share * (end - top), (1 + math.cos(math.pi * share)) / 2) for share in shares]
        return cls(points=(start, (top, 1.0), *fall, (end, 0.0)))

    @classmethod
    def of(cls, params: Finetuning, total: int) -> "Schedule":
        """The one that `finetuning.schedule` names, over `total` optimizer steps."""
        return (cls.cosine if params.schedule == "cosine" else cls.linear)(total, params.warmup_share)

    @property
    def total(self) -> int:
        """The last step with a rate above zero."""
        return int(self.points[-1][0]) - 1

    def factor(self, step: int) -> float:
        """The factor in [0, 1] for the step of this number, from 1."""
        steps, factors = zip(*self.points, strict=True)
        return float(np.interp(step, steps, factors))

    def shortened(self, done: int, total: int) -> "Schedule":
        """The same up to step `done`, then down to zero right after the new `total`, in the shape that was to come."""
        now, end = self.factor(done), max(total, done) + 1.0
        past = tuple(point for point in self.points if point[0] < done)
        below = [point for point in self.points if point[0] > done and point[1] < now]
        first = max([float(done), *(step for step, factor in self.points if factor >= now)])
        stretch = (end - done) / (self.points[-1][0] - first)
        fall = tuple((done + (step - first) * stretch, factor) for step, factor in below[:-1])
        return Schedule(points=(*past, (float(done), now), *fall, (end, 0.0)))


def known_rate(params: Finetuning) -> float:
    """`finetuning.learning_rate` as a number: by now the range test has put one in the place of `auto`."""
    assert params.learning_rate != "auto", "the range test comes first"
    return params.learning_rate


class Group(TypedDict):
    """Parameters that AdamW moves alike; `base_rate` is their full rate."""

    params: list[nn.Parameter]
    base_rate: float
    lr: float
    weight_decay: float


def grouped(named: Iterable[tuple[str, nn.Parameter, int]], rate: float, fall: float, decay: float) -> list[Group]:
    """AdamW's groups of parameters with name and depth: the rate changes by the factor `fall` per depth.

    Weight decay is not for biases, norms and embeddings, where it only moves the function.
    """
    groups: dict[tuple[int, bool], Group] = {}
    for name, parameter, depth in named:
        decayed = parameter.ndim > 1 and "embedding" not in name.lower()
        group = Group(params=[], base_rate=rate * fall**depth, lr=0.0, weight_decay=decay if decayed else 0.0)
        groups.setdefault((depth, decayed), group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def parameter_groups(model: Specialist, params: Finetuning) -> list[Group]:
    """AdamW's groups: rates fall by `layer_decay` per layer from the head down."""
    return grouped(_with_depths(model), known_rate(params), params.layer_decay, params.weight_decay)


def make_optimizer(model: Specialist, params: Finetuning) -> torch.optim.AdamW:
    """The optimizer of a fine-tuning."""
    return adamw(parameter_groups(model, params))


def adamw(groups: list[Group]) -> torch.optim.AdamW:
    """AdamW, fused: one pass over the memory of each parameter."""
    return torch.optim.AdamW([{**group} for group in groups], fused=True)


def optimizer_step(
    optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor], *, factor: float, clip: float, precision: Precision
) -> float:
    """One step outside of Lightning, at a factor of each group's `base_rate`; returns the loss."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor
    optimizer.zero_grad()
    with autocast(precision), training_dropout():
        loss = loss_of()
    torch.autograd.backward(loss)
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(moved, clip)
    optimizer.step()
    return float(loss.detach())


def _with_depths(model: Specialist) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Each trained parameter and its distance from the head: 0 the head, 1 the last layer, then down."""
    layers = encoder_layers(model.encoder)
    place = {id(parameter): index for index, layer in enumerate(layers) for parameter in layer.parameters()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = 0 if name.startswith("head.") else len(layers) - place.get(id(parameter), -1)
            yield name, parameter, depth
