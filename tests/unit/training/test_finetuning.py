"""A fine-tuning learns, repeats itself bit for bit, and refuses what cannot be learned from."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.prepared_rows import make_prepared, write_split
from tests.fixtures.training import MakeParams
from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.model.folder import read_model_config
from tokka.training.finetuning import finetune
from tokka.training.fit import fit
from tokka.training.fit.budget import Plan
from tokka.training.fit.lightning_module import FinetuningModule

Trained = tuple[Path, dict[str, Any]]


def test_learns_and_says_what_it_cost(trained: Trained) -> None:
    metrics = trained[1]["metrics"]
    assert metrics["validation_accuracy"] > 0.8
    assert metrics["onnx_fp32_maximum_difference"] < 1e-3
    assert metrics["steps"] == 20
    assert metrics["training_cpu_seconds"] > 0
    assert all(np.isfinite(value) for value in metrics.values())
    assert [curve["epoch"] for curve in trained[1]["curves"]] == [1, 2]


def test_the_same_key_gives_the_same_bytes(
    prepared: Path, make_params: MakeParams, trained: Trained, tmp_path: Path
) -> None:
    again = finetune(prepared, make_params(), tmp_path / "model", tmp_path / "work")
    assert again["weights_sha256"] == trained[1]["weights_sha256"]
    assert again["digest"] == trained[1]["digest"]


def test_another_seed_gives_other_weights(
    prepared: Path, make_params: MakeParams, trained: Trained, tmp_path: Path
) -> None:
    other = finetune(prepared, make_params(seed=8), tmp_path / "model", tmp_path / "work")
    assert other["weights_sha256"] != trained[1]["weights_sha256"]


def test_only_used_rows_of_the_table_move(base: Path, trained: Trained) -> None:
    from safetensors.numpy import load_file

    before = load_file(base / "model.safetensors")["embeddings.word_embeddings.weight"]
    after = load_file(trained[0] / "model.safetensors")["encoder.embeddings.word_embeddings.weight"]
    moved = (before != after).any(axis=1)
    assert 20 < moved.sum() < len(moved) / 2
    assert before.shape == after.shape


@pytest.mark.parametrize("strategy", ["partial", "frozen"])
def test_strategies_leave_the_rest_as_it_was(
    strategy: str, base: Path, prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    params = make_params(strategy=strategy, layers=1, epochs=1)
    finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    moved = {name for name, value in before.items() if not np.array_equal(value, after[f"encoder.{name}"])}
    assert all(name.startswith("encoder.layer.1.") for name in moved)
    assert bool(moved) == (strategy == "partial")


def test_without_warm_start_and_in_float32(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(head_warm_start=False, precision="32", epochs=4)
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert outcome["precision"] == "32-true"
    assert outcome["metrics"]["validation_accuracy"] > 0.5


def test_two_classes(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = Path(shutil.copytree(prepared, tmp_path / "prepared"))
    sizes = {}
    for split in ("train", "validation", "test"):
        rows = [row for row in pq.read_table(folder / f"{split}.parquet").to_pylist() if row["target"] != "printer"]
        write_split(folder, split, rows)
        sizes[split] = len(rows)
    files.write_json(folder / "labels.json", {"labels": ["card", "payment"]})
    files.write_json(folder / "summary.json", {"rows": sizes, "task": "classification"})
    outcome = finetune(folder, make_params(), tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["validation_accuracy"] > 0.8


def test_divergence_is_one_sentence_and_writes_nothing(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(learning_rate=1.0, gradient_clip=1e30, weight_decay=1e6, warmup_share=0.0)
    with pytest.raises(TokkaError, match="diverged") as caught:
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert "learning_rate" in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_a_class_without_training_rows_is_refused(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "prepared"))
    files.write_json(folder / "labels.json", {"labels": ["card", "payment", "printer", "vanished"]})
    with pytest.raises(TokkaError, match="'vanished' has no training row"):
        finetune(folder, make_params(), tmp_path / "model", tmp_path / "work")


def test_an_unknown_label_is_refused(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "prepared"))
    files.write_json(folder / "labels.json", {"labels": ["card", "payment"]})
    with pytest.raises(TokkaError, match=r"'printer', which labels\.json lacks"):
        finetune(folder, make_params(), tmp_path / "model", tmp_path / "work")


def test_one_class_and_no_rows_and_constant_targets_are_refused(make_params: MakeParams, tmp_path: Path) -> None:
    one = make_prepared(tmp_path / "one")
    for split, rows in (("train", 150), ("validation", 40), ("test", 40)):
        write_split(one, split, [{"row_id": str(i), "text": "my card", "target": "card"} for i in range(rows)])
    files.write_json(one / "labels.json", {"labels": ["card"]})
    with pytest.raises(TokkaError, match="one class only: card"):
        finetune(one, make_params(), tmp_path / "model", tmp_path / "work")
    empty = make_prepared(tmp_path / "empty", rows={"train": 10, "validation": 0, "test": 5})
    with pytest.raises(TokkaError, match="validation split is empty"):
        finetune(empty, make_params(), tmp_path / "model", tmp_path / "work")
    constant = make_prepared(tmp_path / "constant", task="regression")
    for split, rows in (("train", 150), ("validation", 40), ("test", 40)):
        write_split(constant, split, [{"row_id": str(i), "text": "my card", "target": 1.0} for i in range(rows)])
    with pytest.raises(TokkaError, match="same value"):
        finetune(constant, make_params(task={"type": "regression"}), tmp_path / "model", tmp_path / "work")


def test_a_served_form_that_would_not_exist_is_refused_at_once(make_params: MakeParams, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"export\.serve = int8 needs export\.int8"):
        finetune(tmp_path, make_params(export={"int8": False}), tmp_path / "model", tmp_path / "work")
    with pytest.raises(UsageError, match=r"export\.serve = int8 needs export\.onnx"):
        finetune(tmp_path, make_params(export={"onnx": False}), tmp_path / "model", tmp_path / "work")


def test_a_form_that_disagrees_is_refused(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(export={"maximum_difference": 1e-12}, strategy="frozen")
    with pytest.raises(TokkaError, match="ONNX differs from torch"):
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".*making*"))


def test_torch_alone(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(export={"onnx": False, "int8": False, "serve": "torch"}, strategy="frozen")
    finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert not (tmp_path / "model" / "model.onnx").exists()


def test_an_early_stop_lets_the_learning_rate_run_out(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    started = FinetuningModule.on_train_batch_start

    def noting(self: FinetuningModule, batch: object, batch_idx: int) -> None:
        started(self, batch, batch_idx)  # type: ignore[arg-type]
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(FinetuningModule, "on_train_batch_start", noting)
    params = make_params(epochs=8, early_stopping={"patience": 1, "minimum_improvement": 0.9})
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert len(outcome["curves"]) == 3
    assert rates[-1] < 0.2 * rates[len(rates) * 2 // 3 - 1]
    last, first = (outcome["curves"][place]["validation_accuracy"] for place in (-1, 0))
    assert outcome["metrics"]["validation_accuracy"] >= max(first, last) - 0.05


def test_no_more_is_trained_than_fits_into_the_time_budget(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundredth of a second per token: much slower than it is, so that no pause of the machine shortens the plan.
    monkeypatch.setattr(fit, "seconds_per_token", lambda setup: 0.01)
    outcome = finetune(prepared, make_params(epochs=1000, time_budget="2m"), tmp_path / "model", tmp_path / "work")
    plan = Plan(**files.read_json(tmp_path / "work" / "plan.json"))
    assert outcome["metrics"]["steps"] == plan.total > 0
    # Fifteen rows a step, of five tokens at the least.
    assert plan.total * 15 * 5 * 0.01 <= 120


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "mpnet", "electra"])
def test_other_encoders(kind: str, prepared: Path, base: Path, make_params: MakeParams, tmp_path: Path) -> None:
    folder = make_other_base(kind, base, tmp_path / "base")
    params = make_params(epochs=1).model_copy(
        update={"model": make_params().model.model_copy(update={"base": str(folder)})}
    )
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["onnx_fp32_maximum_difference"] < 1e-3
    # Random weights lose much, and how much depends on the processor: 0.112 on one of two, below 0.1 on the other.
    assert outcome["metrics"]["onnx_int8_mean_difference"] < 0.2


def make_other_base(kind: str, base: Path, folder: Path) -> Path:
    import json

    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    folder.mkdir()
    # How much int8 loses depends on the weights: without a seed each run has others.
    torch.manual_seed(0)
    sizes = {"vocab_size": 176, "max_position_embeddings": 66, "pad_token_id": 0}
    if kind == "distilbert":
        sizes |= {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    else:
        sizes |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, **sizes)
    model = AutoModel.from_config(config)
    save_file(model.state_dict(), folder / "model.safetensors")
    known = {key: value for key, value in config.to_dict().items() if value is not None}
    (folder / "config.json").write_text(json.dumps(known))
    shutil.copy(base / "tokenizer.json", folder / "tokenizer.json")
    return folder


def test_auto_keeps_what_is_better_on_validation_and_says_so(
    base: Path, prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    """Of few rows: contrastive fine-tuning, and the linear head where a spoilt training is worse."""
    good = finetune(prepared, make_params(strategy="auto"), tmp_path / "good", tmp_path / "a")
    config = read_model_config(tmp_path / "good")
    seen = [good["metrics"][f"{one}_validation_accuracy"] for one in ("fine_tuned", "linear_head")]
    # Within noise it is the fine-tuned one.
    assert config.strategy == "contrastive" or seen[0] < seen[1]
    assert good["metrics"]["validation_accuracy"] == pytest.approx(seen[config.strategy == "frozen"])
    spoilt = make_params(strategy="auto", learning_rate=1.0, schedule="linear", gradient_clip=1e6)
    bad = finetune(prepared, spoilt, tmp_path / "bad", tmp_path / "b")
    assert bad["metrics"]["fine_tuned_validation_accuracy"] < bad["metrics"]["linear_head_validation_accuracy"]
    assert read_model_config(tmp_path / "bad").strategy == "frozen"
    frozen = finetune(prepared, make_params(strategy="frozen"), tmp_path / "frozen", tmp_path / "c")
    encoders, heads = zip(*(parts(tmp_path / name) for name in ("bad", "frozen")), strict=True)
    assert encoders[0] == encoders[1]
    assert heads[0] != heads[1], "fitted once more, on the validation rows as well"
    assert bad["metrics"]["head_rows"] > frozen["metrics"]["train_rows"]


def parts(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The weights of the encoder and of the head."""
    from safetensors.numpy import load_file

    weights = {name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()}
    names = [{name for name in weights if name.startswith("head.") == is_head} for is_head in (False, True)]
    encoder, head = ({name: weights[name] for name in chosen} for chosen in names)
    return encoder, head
