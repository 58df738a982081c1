"""Each strategy moves what it says and nothing else, leaves a folder as ever, and survives a kill."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.fixtures.prepared_rows import make_prepared
from tests.fixtures.training import MakeParams
from tests.unit.training.fit.test_checkpoints import kill_after_checkpoint
from tokka import files
from tokka.data.preparation.prepared import load
from tokka.errors import UsageError
from tokka.model.base import resolve_base
from tokka.model.network import Specialist, load_encoder
from tokka.params import Params
from tokka.sections import Finetuning
from tokka.training.finetuning import finetune
from tokka.training.fit.callbacks import Averaging, TrainingCallback
from tokka.training.fit.fit import fit, make_module
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.setup import strategies
from tokka.training.setup.optimisation import make_optimizer
from tokka.training.setup.strategies import freeze, unfreeze, unfrozen_layers
from tokka.training.setup.training_setup import (
    TrainingSetup,
    balanced_weights,
    own_randomness_and_threads,
    prepare_training,
)
from tokka.training.train import train

TORCH_ONLY = {"onnx": False, "int8": False, "serve": "torch"}


def make_setup(prepared: Path, params: Params, place: Path) -> TrainingSetup:
    return prepare_training(load(prepared), params, resolve_base(params.model, place / "base"))


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_file(folder / "model.safetensors")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "lora"},
        {"strategy": "gradual"},
        {"ema": 0.8},
        {"accumulate": 3, "schedule": "cosine"},
        {"learning_rate": "auto", "class_weights": "balanced"},
    ],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values()))),
)
def test_a_kill_and_a_resume_give_the_same_weights(
    options: dict[str, Any], prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    params = make_params(export=TORCH_ONLY, epochs=8, early_stopping={"patience": 8}, **options)
    whole = finetune(prepared, params, tmp_path / "whole" / "model", tmp_path / "whole" / "work")
    (tmp_path / "killed").mkdir()
    kill_after_checkpoint(prepared, params, tmp_path / "killed", 2)
    assert not (tmp_path / "killed" / "model").exists()
    resumed = finetune(prepared, params, tmp_path / "killed" / "model", tmp_path / "killed" / "work")
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    # A training that was complete is exported again, from its checkpoint alone.
    again = finetune(prepared, params, tmp_path / "again", tmp_path / "killed" / "work")
    assert again["weights_sha256"] == whole["weights_sha256"]
    usual = make_params(export=TORCH_ONLY, epochs=8, early_stopping={"patience": 8})
    other = finetune(prepared, usual, tmp_path / "usual", tmp_path / "usual_work")
    assert other["weights_sha256"] != whole["weights_sha256"]


def test_lora_trains_adapters_and_head_alone(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    setup = make_setup(prepared, make_params(strategy="lora", lora={"rank": 4}), tmp_path)
    batch = setup.data.collate(setup.data.train, [0, 1, 2, 3])
    torch.autograd.backward(make_module(setup).loss(batch))
    moved = {name for name, parameter in setup.model.named_parameters() if parameter.grad is not None}
    assert {name for name in moved if "lora_" not in name} == {"head.linear.weight", "head.linear.bias"}
    for part in ("query", "key", "value", "attention.output.dense", "intermediate.dense", "layer.1.output.dense"):
        assert any(f"{part}.lora_A" in name for name in moved), part
    held = {
        id(p) for group in make_optimizer(setup.model, setup.params.finetuning).param_groups for p in group["params"]
    }
    assert held == {id(p) for name, p in setup.model.named_parameters() if name in moved}


def test_lora_leaves_a_folder_as_ever(prepared: Path, base: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(strategy="lora", epochs=4, learning_rate=1e-2)
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["onnx_fp32_maximum_difference"] < 1e-3
    assert outcome["metrics"]["validation_accuracy"] > 0.8
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "model")
    assert {name.removeprefix("encoder.") for name in after if name.startswith("encoder.")} == set(before)
    changed = {name for name, value in before.items() if not torch.equal(value, after[f"encoder.{name}"])}
    assert changed == {name for name in before if ".layer." in f".{name}" and before[name].ndim == 2}
    change = after["encoder.encoder.layer.0.output.dense.weight"] - before["encoder.layer.0.output.dense.weight"]
    assert int(torch.linalg.matrix_rank(change, atol=1e-5)) <= params.finetuning.lora.rank


def test_the_best_epoch_of_adapters_is_loaded(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = {"patience": 1, "minimum_improvement": 0.9}
    params = make_params(strategy="lora", export=TORCH_ONLY, epochs=8, early_stopping=patience)
    monkeypatch.setattr(TrainingCallback, "use_best", lambda self: self.progress.best_epoch == 1)
    stopped = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert len(stopped["curves"]) == 3
    best = load_file(tmp_path / "work" / "best.safetensors")
    after = weights(tmp_path / "model")
    assert torch.equal(after["head.linear.weight"], best["head.linear.weight"])


@given(total=st.integers(1, 3000), layers=st.integers(1, 24))
def test_unfreezing_rises_one_by_one_to_everything(total: int, layers: int) -> None:
    counts = [unfrozen_layers(step, total, layers) for step in range(1, total + 1)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    after = int(strategies.UNFREEZING_SHARE * total) + 2
    assert all(count == layers + 1 for count in counts[after - 1 :])
    if total > 8 * (layers + 1):
        assert sorted(set(counts)) == list(range(layers + 2))
        spans = [counts.count(count) for count in range(layers + 1)]
        assert max(spans) - min(spans) <= 2


def test_frozen_layers_do_not_move(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    """The optimizer knows every parameter from the start; those that are not yet free stay bit for bit."""
    setup = make_setup(prepared, make_params(strategy="gradual"), tmp_path)
    module, optimizer = make_module(setup), make_optimizer(setup.model, setup.params.finetuning)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(setup.model.parameters()))
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    batch = setup.data.collate(setup.data.train, list(range(16)))
    for count, free in [(0, ["head."]), (1, ["head.", ".layer.1."]), (2, ["head.", ".layer."]), (3, [""])]:
        before = {name: value.clone() for name, value in setup.model.named_parameters()}
        unfreeze(setup.model, count)
        optimizer.zero_grad()
        torch.autograd.backward(module.loss(batch))
        optimizer.step()
        moved = {name for name, value in setup.model.named_parameters() if not torch.equal(value, before[name])}
        assert moved
        assert all(any(part in name for part in free) for name in moved), count
        assert all(any(part in name for name in moved) for part in free), count


def test_gradual_trains_layer_after_layer(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    original = FinetuningModule.on_before_optimizer_step

    def note(module: FinetuningModule, *arguments: Any) -> None:
        free = [p.grad is not None for p in module.model.encoder.parameters()]
        seen.append((module.global_step, sum(free)))
        original(module, *arguments)

    params = make_params(strategy="gradual", epochs=4)
    with pytest.MonkeyPatch.context() as patch, own_randomness_and_threads(params):
        patch.setattr(FinetuningModule, "on_before_optimizer_step", note)
        (tmp_path / "work").mkdir()
        fit(make_setup(prepared, params, tmp_path), tmp_path / "work", 0.0)
    free = [count for _, count in seen]
    assert free[0] == 0
    assert free == sorted(free)
    assert len(set(free)) == 4  # none, one layer, two, and the embeddings


def test_the_average_is_what_is_validated_and_exported(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(ema=0.95, epochs=2, export=TORCH_ONLY)
    averages: list[dict[str, Any]] = []
    steps: list[Any] = []
    original = Averaging.on_train_batch_end

    def note(self: Averaging, trainer: Any, module: Any, *rest: Any) -> None:
        original(self, trainer, module, *rest)
        steps.append(module.model.head.linear.weight.detach().clone())
        averages.append({name: value.clone() for name, value in self.weights().items()})

    with pytest.MonkeyPatch.context() as patch, own_randomness_and_threads(params):
        patch.setattr(Averaging, "on_train_batch_end", note)
        setup = make_setup(prepared, params, tmp_path)
        (tmp_path / "work").mkdir()
        trained = train(setup, tmp_path / "work")
    by_hand = steps[0]
    for step in steps[1:]:
        by_hand = 0.95 * by_hand + 0.05 * step
    assert torch.allclose(averages[-1]["head.linear.weight"], by_hand, atol=1e-6)
    assert torch.equal(setup.model.head.linear.weight.detach(), averages[-1]["head.linear.weight"])
    assert not torch.equal(setup.model.head.linear.weight.detach(), steps[-1])
    accuracy = float((trained.outputs.argmax(1) == setup.validation.targets).mean())
    assert trained.curves[-1]["validation_accuracy"] == pytest.approx(accuracy, abs=0.026)
    logits = trained.curves[-1]["validation_loss"]
    exact = -torch.log_softmax(torch.from_numpy(trained.outputs), 1)[range(40), setup.validation.targets].mean()
    assert logits == pytest.approx(float(exact), abs=5e-3)


def test_balanced_weights_even_out_the_classes(make_params: MakeParams, tmp_path: Path) -> None:
    targets = np.asarray([0] * 8 + [1] * 2)
    found = balanced_weights(targets)
    assert found.tolist() == pytest.approx([10 / 16, 10 / 4])
    prepared = make_prepared(tmp_path / "prepared")
    plain = make_setup(prepared, make_params(), tmp_path)
    batch = plain.data.collate(plain.data.train, list(range(12)))
    module = make_module(plain).eval()
    before = float(module.loss(batch).detach())
    weighted = FinetuningModule(plain.model, plain.params.finetuning, "classification", torch.tensor([1.0, 9.0, 1]))
    assert float(weighted.eval().loss(batch).detach()) != pytest.approx(before, abs=1e-6)
    assert "class_weights" not in weighted.state_dict()


def test_rare_classes_count_with_balanced_weights(make_params: MakeParams, tmp_path: Path) -> None:
    """Also with a frozen encoder, where the head is fitted in one go."""
    import pyarrow.parquet as pq

    from tests.fixtures.prepared_rows import write_split

    folder = Path(shutil.copytree(make_prepared(tmp_path / "whole"), tmp_path / "prepared"))
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    rare = [row for row in rows if row["target"] == "card"][:3]
    fewer = [row for row in rows if row["target"] != "card"] + rare
    write_split(folder, "train", fewer)
    sizes = {"train": len(fewer), "validation": 40, "test": 40}
    files.write_json(folder / "summary.json", {"rows": sizes, "task": "classification"})
    shares = {}
    for option in ("none", "balanced"):
        params = make_params(strategy="frozen", export=TORCH_ONLY, class_weights=option)
        with own_randomness_and_threads(params):
            trained = train(make_setup(folder, params, tmp_path), tmp_path)
        shares[option] = float((trained.outputs.argmax(1) == 0).mean())
    assert shares["balanced"] > shares["none"]


def test_class_weights_of_a_regression_are_refused(make_params: MakeParams, tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared", task="regression")
    params = make_params(task={"type": "regression"}, class_weights="balanced")
    with pytest.raises(UsageError, match="class_weights: balanced needs classes"):
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")


def test_a_compiled_encoder_trains_and_leaves_as_it_was(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    """Traced as for a real compilation, but run without the C++ compiler, whose minute says nothing about our code."""
    plain_compile, compiled = torch.nn.Module.compile, []

    def traced(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(options)
        plain_compile(module, **options, backend="aot_eager")

    params = make_params(epochs=1, compile=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", traced)
        outcome = finetune(prepared, params, tmp_path / "compiled", tmp_path / "work")
    setup = make_setup(prepared, params, tmp_path)
    assert compiled == [{"dynamic": True}]
    assert set(weights(tmp_path / "compiled")) == set(setup.model.state_dict())
    assert outcome["metrics"]["validation_accuracy"] > 0.5
    assert outcome["metrics"]["onnx_fp32_maximum_difference"] < 1e-3


@pytest.fixture
def model(base: Path) -> Specialist:
    return Specialist(load_encoder(base), outputs=3, pooling="mean")


@pytest.mark.parametrize(
    ("strategy", "layers", "moves"),
    [
        ("full", 2, {"embeddings", "layer.0", "layer.1", "head"}),
        ("partial", 1, {"layer.1", "head"}),
        ("frozen", 1, {"head"}),
    ],
)
def test_strategies_train_what_they_say(model: Specialist, strategy: str, layers: int, moves: set[str]) -> None:
    freeze(model, Finetuning.model_validate({"strategy": strategy, "layers": layers}))
    free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {
        part for part in ("embeddings", "layer.0", "layer.1", "head") if any(part in name for name in free)
    } == moves
