"""The training itself: head first, then the network, then the weights that are kept."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokka import progress
from tokka.model.engines import Floats
from tokka.model.network import Specialist
from tokka.training.adaptation import adapt
from tokka.training.fit.callbacks import Curve, OnEpoch
from tokka.training.fit.fit import fit, predict_outputs
from tokka.training.fit.out_of_memory import translate_errors, with_smaller_batches
from tokka.training.fit.precision_timing import resolve_precision
from tokka.training.fit.validation import STEERING, is_better, validation_metrics
from tokka.training.setup.few_rows import LEARNED, joined
from tokka.training.setup.optimisation import known_rate
from tokka.training.setup.precision import choose_device
from tokka.training.setup.training_setup import TrainingSetup
from tokka.training.setup.warm_start import extract_features, fit_head


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the weights in `setup.model`, which have their full vocabulary again.

    outputs: (validation rows, labels or 1). curves: one entry per epoch. facts: flat figures. held_out: the outputs
    before the head learned from the validation rows too; None where it did not.
    """

    outputs: Floats
    curves: list[Curve]
    facts: dict[str, float]
    held_out: Floats | None = None

    @property
    def honest(self) -> Floats:
        """Outputs for the validation rows of a network that has not learned from them."""
        return self.outputs if self.held_out is None else self.held_out


def train(setup: TrainingSetup, work: Path, on_epoch: OnEpoch | None = None) -> Trained:
    """Practise on unlabelled texts, warm-start the head, fine-tune, keep the better of last and best epoch.

    `on_epoch` gets each epoch's entry of the curves; what it raises ends the training.

    Raises:
        TokkaError: the loss is not finite, memory ran out, or the time budget does not allow one step.
    """
    began, cpu_began, params = time.monotonic(), time.process_time(), setup.params.finetuning
    setup.model.to(choose_device())
    resolve_precision(setup, work)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    practice = adapt(setup, work)
    head, linear = _fit_head(setup)
    seconds, cpu_seconds = seconds + head["head_seconds"], cpu_seconds + head["head_cpu_seconds"]
    facts, curves = {name: value for name, value in head.items() if name != "head_seconds"}, list[Curve]()
    # A linear head on a frozen encoder is convex: what was fitted is the optimum, there is nothing to descend.
    before = _weights(setup) if params.strategy == "contrastive" else {}
    if params.strategy != "frozen":
        done = with_smaller_batches(setup, work, lambda: fit(setup, work, began, on_epoch)).progress
        curves, seconds, cpu_seconds = done.curves, seconds + done.seconds, cpu_seconds + done.cpu_seconds
        params = setup.params.finetuning
        facts |= {"learning_rate": known_rate(params), "batch_size": float(params.batch_size)}
    if setup.adapters is not None:
        setup.adapters.merge_and_unload()
    if params.strategy == "contrastive":
        _average(setup.model, before)
        facts["head_regularisation"] = fit_head(setup.model.cpu(), setup.data, "32", chosen=True) or 0.0
    outputs, held_out = _decide(setup, predict_outputs(setup), linear, facts)
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
    return Trained(outputs, curves, facts, held_out)


@dataclass(frozen=True)
class LinearHead:
    """The network with a linear head on the encoder as it was, and its outputs (validation rows, labels or 1)."""

    weights: dict[str, Tensor]
    outputs: Floats


def _fit_head(setup: TrainingSetup) -> tuple[dict[str, float], LinearHead | None]:
    began, cpu_began, params = time.monotonic(), time.process_time(), setup.params.finetuning
    final = params.strategy in ("frozen", "contrastive") or setup.competes
    facts, linear = dict[str, float](), None
    if params.head_warm_start or final:
        progress.report("finetune", "fitting the head on the frozen encoder", fraction=0.02)
        with translate_errors(setup):
            features = extract_features(setup.model, setup.data, "32" if final else setup.precision)
            strength = fit_head(setup.model, setup.data, setup.precision, chosen=final, features=features)
            facts |= {} if strength is None else {"head_regularisation": strength}
            if setup.competes:
                linear = _kept(setup)
                if params.strategy == "full":  # the recipe was found with a head that starts at C = 10
                    fit_head(setup.model, setup.data, setup.precision, features=features)
    facts |= {"head_seconds": time.monotonic() - began, "head_cpu_seconds": time.process_time() - cpu_began}
    return facts, linear


def _learn_from_all(setup: TrainingSetup, facts: dict[str, float]) -> Floats:
    """Fit the head once more, on training and validation rows, which have done their duty; the outputs (rows, labels).

    Only where the head alone was fitted to the rows: of 10 rows a class the tenth is worth half a point.
    """
    model, data = setup.model.cpu(), setup.data
    rows = joined(data.train, data.validation, data.validation.targets)
    facts["head_regularisation"] = fit_head(model, data, "32", chosen=True, rows=rows) or 0.0
    facts["head_rows"] = float(len(rows.ids))
    return predict_outputs(setup)


def _kept(setup: TrainingSetup) -> LinearHead:
    outputs = predict_outputs(setup)
    found = LinearHead(_weights(setup), outputs)
    setup.model.to(choose_device()).train()
    return found


def _weights(setup: TrainingSetup) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in setup.model.state_dict().items()}


def _average(model: Specialist, before: Mapping[str, Tensor]) -> None:
    """Bring each weight the share 1 - LEARNED of the way back to what it was."""
    state = model.cpu().state_dict()
    model.load_state_dict(
        {name: torch.lerp(before[name], value, LEARNED) if value.is_floating_point() else value
         for name, value in state.items()}
    )  # fmt: skip


def _decide(
    setup: TrainingSetup, tuned: Floats, linear: LinearHead | None, facts: dict[str, float]
) -> tuple[Floats, Floats | None]:
    """Outputs of what is kept, and those from before it learned from the validation rows too, where it did."""
    if linear is None:
        return tuned, None
    few = setup.params.finetuning.strategy == "contrastive"
    outputs = _better(setup, tuned, linear, facts)
    if not few or setup.params.data.validation:  # an official validation file is not learned from
        return outputs, None
    return _learn_from_all(setup, facts), outputs


def _better(setup: TrainingSetup, tuned: Floats, linear: LinearHead, facts: dict[str, float]) -> Floats:
    """The outputs of what is better on the validation rows, whose weights the setup has then."""
    task, targets = setup.prepared.task, setup.validation.targets
    name = STEERING[task][0]
    both = {"fine_tuned": tuned, "linear_head": linear.outputs}
    seen = {one: validation_metrics(task, outputs, targets)[name] for one, outputs in both.items()}
    facts |= {f"{one}_validation_{name}": value for one, value in seen.items()}
    few = setup.params.finetuning.strategy == "contrastive"
    kept = is_better(task, tuned, linear.outputs, targets, few=few)
    said = f"{setup.params.finetuning.strategy} {seen['fine_tuned']:.4f}, linear head {seen['linear_head']:.4f}"
    progress.report(
        "finetune", f"auto, by {name} of the validation rows: {said}: {'the first' if kept else 'the head'}"
    )
    if kept:
        return tuned
    setup.model.load_state_dict(linear.weights)
    setup.adjust(strategy="frozen")
    return linear.outputs
