"""The training step as Lightning calls it."""

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tokka.errors import TokkaError
from tokka.model.network import Specialist, encoder_layers
from tokka.sections import Finetuning
from tokka.training.fit.validation import validation_metrics
from tokka.training.setup.augmentation import drop_words, mixing, training_dropout
from tokka.training.setup.datamodule import Batch, inputs_of
from tokka.training.setup.optimisation import Schedule, known_rate, make_optimizer
from tokka.training.setup.strategies import unfreeze, unfrozen_layers

# Of the supervised contrastive loss.
TEMPERATURE = 0.07


class FinetuningModule(pl.LightningModule):  # type: ignore[misc]  # Lightning ships no types that we read
    """Loss, optimizer and learning rate; every random draw depends on the seed and the step's number alone."""

    class_weights: Tensor | None

    def __init__(self, model: Specialist, params: Finetuning, task: str, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.model, self.params, self.task = model, params, task
        self.schedule = Schedule.of(params, 1)
        self.losses: list[Tensor] = []
        self.validation: dict[str, float] = {}
        self._outputs = np.empty((0, 0), dtype=np.float32)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW in groups; the rates are set before each step."""
        return make_optimizer(self.model, self.params)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step's dropout, so that a resumed training draws what an uninterrupted one draws."""
        torch.manual_seed(
            step_seed(self.params.seed, self.global_step, batch_idx % self.params.accumulate, self.global_rank)
        )
        if self.params.strategy == "gradual":
            layers = len(encoder_layers(self.model.encoder))
            unfreeze(self.model, unfrozen_layers(self.global_step + 1, self.schedule.total, layers))
        factor = self.schedule.factor(self.global_step + 1)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_rate"] * factor

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: object, **__: object) -> None:
        """Clip here: the trainer refuses to with a fused optimizer, though bf16 scales no gradients."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.gradient_clip)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; TokkaError when it is NaN or infinite: nothing has been written by then."""
        with training_dropout(self.params.compile):
            loss = self.loss(batch)
        if not bool(torch.isfinite(loss)):
            raise TokkaError(
                f"the loss is {float(loss.detach())} at step {self.global_step + 1}: training diverged",
                f"lower finetuning.learning_rate (now {known_rate(self.params):g}), or set precision: 32",
            )
        self.losses.append(loss.detach())
        # The trainer divides by `accumulate`; the last group of an epoch may hold fewer batches.
        group = self.params.accumulate
        present = min(group, self.trainer.num_training_batches - batch_idx // group * group)
        return loss if present == group else loss * (group / present)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy with label smoothing, or the squared error in units of the target's variance.

        Words are dropped first; a mixed batch (`augmentation.mixing`) is judged by its mixed targets.
        """
        mask = drop_words(batch["attention_mask"], self.params.augmentation.word_dropout)
        target, (outputs, embedding) = batch["target"], self.model(**inputs_of({**batch, "attention_mask": mask}))
        mix = mixing(len(target), self.params.augmentation.mixup)
        if mix is None:
            return self._loss(outputs, target) + self._pairs(embedding, target)
        share, partners = mix
        outputs = self.model.classify(share * embedding + (1 - share) * embedding[partners])
        if self.task == "regression":
            return self._loss(outputs, share * target + (1 - share) * target[partners])
        # Cross-entropy is linear in the target: this is the one with soft, smoothed labels.
        return share * self._loss(outputs, target) + (1 - share) * self._loss(outputs, target[partners])

    def _pairs(self, embedding: Tensor, target: Tensor) -> Tensor:
        """The supervised contrastive loss of strategy contrastive, over the pairs of a class within the batch."""
        if self.params.strategy != "contrastive":
            return embedding.new_zeros(())
        return supervised_contrastive(embedding, target)

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.task == "classification":
            return functional.cross_entropy(
                outputs, target, label_smoothing=self.params.label_smoothing, weight=self.class_weights
            )
        # Divided before it is squared: the square of a large value is beyond float32.
        scale = self.model.head.scale
        return functional.mse_loss(outputs[:, 0] / scale, target / scale)

    def on_validation_epoch_start(self) -> None:
        """Make room for the outputs of all validation rows."""
        rows = len(self.trainer.datamodule.validation.ids)
        self._outputs = np.empty((rows, self.model.head.linear.out_features), dtype=np.float32)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs: the metrics are over all rows at once."""
        self._outputs[batch["row"].cpu().numpy()] = self.model(**inputs_of(batch))[0].cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        """The validation figures of this epoch."""
        targets = self.trainer.datamodule.validation.targets
        self.validation = validation_metrics(self.task, self._outputs, targets)

    def take_mean_loss(self) -> float:
        """The mean training loss since the last call."""
        mean = float(torch.stack(self.losses).mean()) if self.losses else 0.0
        self.losses.clear()
        return mean


def supervised_contrastive(embedding: Tensor, target: Tensor) -> Tensor:
    """How far rows of a class are from each other, as a softmax over all other rows (Khosla et al., 2020).

    embedding: (rows, hidden) of unit length; target: (rows,) class numbers. 0 where no class has two rows.
    """
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    near = (target[:, None] == target[None]) & ~itself
    likeness = (embedding.float() @ embedding.float().T / TEMPERATURE).masked_fill(itself, -1e9).log_softmax(dim=1)
    count = near.sum(dim=1)
    if not bool(count.any()):
        return embedding.new_zeros(())
    return -((likeness * near).sum(dim=1)[count > 0] / count[count > 0]).mean()


def step_seed(seed: int, step: int, part: int = 0, rank: int = 0) -> int:
    """A seed of its own for every step, for every batch of a step and for each process's part of it."""
    place = [seed, step, part, rank] if rank else [seed, step, part] if part else [seed, step]
    return int(np.random.SeedSequence(place).generate_state(1)[0])
