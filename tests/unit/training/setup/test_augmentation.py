"""Noise touches training texts alone, is the same whenever it is drawn again, and leaks nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.fixtures.prepared_rows import make_prepared
from tests.fixtures.training import MakeParams
from tests.unit.training.fit.test_checkpoints import kill_after_checkpoint
from tokka import files
from tokka.data import normalising
from tokka.data.preparation.prepared import load
from tokka.model.base import resolve_base
from tokka.sections import Augmentation
from tokka.training.finetuning import finetune
from tokka.training.fit import lightning_module
from tokka.training.fit.lightning_module import FinetuningModule
from tokka.training.setup import training_setup
from tokka.training.setup.augmentation import (
    AugmentedEpochs,
    QuickDropout,
    augment,
    drop_words,
    make_typos,
    mixing,
    training_dropout,
)
from tokka.training.setup.training_setup import prepare_training

EVERYTHING = {"typos": 1.0, "word_dropout": 1.0, "case": 1.0, "mixup": 1.0}
QUIET = Augmentation()
GOOD = {"typos": 0.3, "word_dropout": 0.1, "case": 0.3, "mixup": 0.5}
shares = st.floats(0, 1)


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(max_size=60).map(normalising.normalise),
    typos=shares,
    case=shares,
    place=st.tuples(*[st.integers(0, 2**32)] * 4),
)
def test_noise_is_repeatable_and_never_empties_a_text(
    text: str, typos: float, case: float, place: tuple[int, ...]
) -> None:
    noise = Augmentation(typos=typos, case=case)
    found = augment(text, noise, place)
    assert found == augment(text, noise, place)
    assert bool(normalising.key(found)) == bool(normalising.key(text))
    assert augment(text, QUIET, place) == text


def test_the_shares_are_what_they_say() -> None:
    rows = ["where is the card that I ordered"] * 2000
    for name in ("typos", "case"):
        noise = Augmentation.model_validate({name: 0.4})
        changed = [augment(row, noise, (7, 0, number, 0)) != row for number, row in enumerate(rows)]
        assert 0.2 < np.mean(changed) <= 0.45  # a typo may hit two equal letters, a case may be the text's own


def test_a_typo_is_a_slip_of_one_letter() -> None:
    generator = np.random.default_rng(0)
    found = {make_typos("card", generator) for _ in range(400)}
    assert {"acrd", "crad", "cadr", "crd", "car", "ard", "ccard", "caard", "vard", "csrd"} <= found
    assert all(3 <= len(text) <= 5 for text in found)
    assert make_typos("x", generator) == "x"


def test_held_out_texts_are_never_made() -> None:
    typed = {normalising.key(augment("card", Augmentation(typos=1.0), (7, 0, row, 0))) for row in range(300)}
    forbidden = frozenset({"crad", "crd", "ccard"})
    assert forbidden <= typed
    made = {normalising.key(augment("card", Augmentation(typos=1.0), (7, 0, row, 0), forbidden)) for row in range(300)}
    assert made == typed - forbidden | {"card"}
    assert augment("The card", Augmentation(case=1.0), (7, 0, 1, 0), frozenset({"the card"})).lower() == "the card"


@settings(deadline=None, max_examples=50)
@given(share=shares, rows=st.integers(1, 8), tokens=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_dropped_words_leave_the_first_token_and_no_row_of_padding(
    share: float, rows: int, tokens: int, seed: int
) -> None:
    mask = torch.ones(rows, tokens, dtype=torch.long)
    mask[:, tokens // 2 + 1 :] = 0
    torch.manual_seed(seed)
    found = drop_words(mask, share)
    torch.manual_seed(seed)
    assert torch.equal(found, drop_words(mask, share))
    assert bool((found <= mask).all())
    assert bool((found[:, 0] == 1).all())
    assert drop_words(mask, 0.0) is mask


def test_so_many_words_are_dropped_as_asked() -> None:
    torch.manual_seed(0)
    assert float(drop_words(torch.ones(100, 101), 0.15)[:, 1:].mean()) == pytest.approx(0.85, abs=0.015)


@pytest.mark.parametrize("pairs", [False, True])
def test_nothing_leaks_with_everything_on(
    make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: bool
) -> None:
    folder = leaky(tmp_path / "prepared", pairs)
    before = {path.name: files.digest_file(path) for path in folder.iterdir()}
    seen = spy_on_texts(monkeypatch)
    task = {"text_pair": "text_pair"} if pairs else {}
    finetune(folder, make_params(augmentation=EVERYTHING, task=task), tmp_path / "model", tmp_path / "work")
    assert {path.name: files.digest_file(path) for path in folder.iterdir()} == before
    rows = load(folder)
    sides = ["text", "text_pair"] if pairs else ["text"]
    assert seen["read"]["validation"] == [rows.validation.column(side).to_pylist() for side in sides]
    assert seen["validated"] == rows.validation.num_rows
    held_out = {
        side: {
            normalising.key(text) for split in (rows.validation, rows.test) for text in split.column(side).to_pylist()
        }
        for side in sides
    }
    assert len(seen["noisy"]) >= 2
    for epoch in seen["noisy"]:
        for side, texts in zip(sides, epoch, strict=True):
            originals = rows.train.column(side).to_pylist()
            assert texts != originals
            for text, original in zip(texts, originals, strict=True):
                key = normalising.key(text)
                assert key not in held_out[side] or key == normalising.key(original)


def leaky(folder: Path, pairs: bool) -> Path:
    """Rows of which every single word that dropout may leave is a test text."""
    make_prepared(folder, pairs=pairs)
    words = sorted({word for text in load(folder).train.column("text").to_pylist() for word in text.split()})
    rows = [{"row_id": str(place), "text": word, "target": "card"} for place, word in enumerate(words)]
    pq.write_table(
        load(folder).test.from_pylist([{**row, "text_pair": "you"} if pairs else row for row in rows]),
        folder / "test.parquet",
    )
    summary = files.read_json(folder / "summary.json")
    summary["rows"] = {**summary["rows"], "test": len(rows)}
    files.write_json(folder / "summary.json", summary)
    return folder


def spy_on_texts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Note what is tokenised for each split, what noise was made, and how many rows a validation sees."""
    seen: dict[str, Any] = {"read": {}, "noisy": [], "validated": 0}
    read, texts, measure = training_setup.read_rows, AugmentedEpochs.texts, lightning_module.validation_metrics

    def reading(prepared: Any, split: str, encoder: Any) -> Any:
        rows = read(prepared, split, encoder)
        table = prepared.split(split)
        names = [name for name in ("text", "text_pair") if name in table.column_names]
        whole = [table.column(name).to_pylist() for name in names]
        for own, ids in zip(encoder.encode(*whole).ids, rows.ids, strict=True):
            np.testing.assert_array_equal(own, ids)
        seen["read"][split], seen["targets", split] = whole, rows.targets
        return rows

    def noisy(self: AugmentedEpochs, epoch: int) -> Any:
        seen["noisy"].append(texts(self, epoch))
        return seen["noisy"][-1]

    def counting(task: str, outputs: Any, targets: Any) -> dict[str, float]:
        np.testing.assert_array_equal(targets, seen["targets", "validation"])
        seen["validated"] = len(outputs)
        return measure(task, outputs, targets)

    monkeypatch.setattr(training_setup, "read_rows", reading)
    monkeypatch.setattr(AugmentedEpochs, "texts", noisy)
    monkeypatch.setattr(lightning_module, "validation_metrics", counting)
    return seen


def test_epochs_differ_and_batches_follow_their_lengths(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    params = make_params(augmentation={"typos": 1.0}, epochs=3)
    setup = prepare_training(load(prepared), params, resolve_base(params.model, tmp_path))
    first, second = (setup.data.train_rows(epoch).lengths for epoch in (0, 1))
    assert first.tolist() != second.tolist()
    assert first.sum() > setup.data.train.lengths.sum()  # a misspelt word is many pieces
    assert setup.data.batches(0).lengths.tolist() == first.tolist()
    assert setup.data.train_rows(3).lengths.tolist() == first.tolist()
    assert max(row.max() for epoch in range(3) for row in setup.data.train_rows(epoch).ids) < len(setup.vocabulary.ids)


def test_many_epochs_keep_the_whole_table(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(augmentation={"typos": 1.0}, epochs=500)
    setup = prepare_training(load(prepared), params, resolve_base(params.model, tmp_path))
    few = prepare_training(
        load(prepared), make_params(augmentation={"typos": 1.0}), resolve_base(params.model, tmp_path)
    )
    assert len(few.vocabulary.ids) < len(setup.vocabulary.ids)
    assert setup.model.encoder.get_input_embeddings().num_embeddings == len(setup.vocabulary.ids)  # type: ignore[operator]


def test_without_noise_no_text_is_looked_at_again(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AugmentedEpochs, "__init__", lambda *_: pytest.fail("no share is above zero"))
    params = make_params(augmentation={"mixup": 1.0, "word_dropout": 0.5})
    setup = prepare_training(load(prepared), params, resolve_base(params.model, tmp_path))
    assert setup.data.train_rows(1) is setup.data.train


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_mixed_batch_is_judged_by_soft_targets(
    task: str, tmp_path: Path, make_params: MakeParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_prepared(tmp_path / "prepared", task=task)
    noise = {"mixup": 1.0, "word_dropout": 0.0}
    params = make_params(augmentation=noise, task={"type": task}, label_smoothing=0.1)
    setup = prepare_training(load(folder), params, resolve_base(params.model, tmp_path))
    module = FinetuningModule(setup.model.eval(), params.finetuning, task)
    batch = setup.data.collate(setup.data.train, list(range(8)))
    torch.manual_seed(3)
    mix = mixing(8, 1.0)
    assert mix is not None
    share, partners = mix
    torch.manual_seed(3)
    found = float(module.loss(batch).detach())
    embedding = setup.model.embed(batch["input_ids"], batch["attention_mask"])
    outputs = setup.model.classify(share * embedding + (1 - share) * embedding[partners])
    if task == "classification":
        hot = functional.one_hot(batch["target"], 3).float()
        wanted = functional.cross_entropy(outputs, share * hot + (1 - share) * hot[partners], label_smoothing=0.1)
    else:
        values = share * batch["target"] + (1 - share) * batch["target"][partners]
        wanted = functional.mse_loss(outputs[:, 0], values) / setup.model.head.scale**2
    assert found == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert mixing(8, 0.0) is None
    assert mixing(1, 1.0) is None


def test_mixup_touches_its_share_of_batches() -> None:
    torch.manual_seed(0)
    assert np.mean([mixing(8, 0.3) is not None for _ in range(2000)]) == pytest.approx(0.3, abs=0.04)


def test_a_noisy_training_still_learns_and_repeats_itself_after_a_kill(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    params = make_params(epochs=10, early_stopping={"patience": 10}, augmentation=GOOD)
    whole = finetune(prepared, params, tmp_path / "whole" / "model", tmp_path / "whole" / "work")
    assert whole["metrics"]["validation_accuracy"] > 0.8
    (tmp_path / "killed").mkdir()
    kill_after_checkpoint(prepared, params, tmp_path / "killed", 2)
    assert not (tmp_path / "killed" / "model").exists()
    resumed = finetune(prepared, params, tmp_path / "killed" / "model", tmp_path / "killed" / "work")
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    plain = finetune(prepared, make_params(epochs=1), tmp_path / "plain", tmp_path / "plain-work")
    assert plain["weights_sha256"] != whole["weights_sha256"]


ONES = torch.ones(200, 500)


def drawn(seed: int, p: float = 0.1, values: torch.Tensor = ONES) -> torch.Tensor:
    torch.manual_seed(seed)
    with QuickDropout():
        return functional.dropout(values, p)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_many_are_dropped_and_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    found = drawn(7, p, ONES.to(dtype))
    error = 5 * (p * (1 - p) / ONES.numel()) ** 0.5
    assert found.dtype == dtype
    assert abs(float((found == 0).float().mean()) - p) < error
    assert set(found.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - round(p * 65536) / 65536)).to(dtype))}


def test_the_seed_of_torch_decides_and_two_masks_differ() -> None:
    assert torch.equal(drawn(7), drawn(7))
    assert not torch.equal(drawn(7), drawn(8))
    with QuickDropout():
        assert not torch.equal(functional.dropout(ONES, 0.1), functional.dropout(ONES, 0.1))


def test_neighbours_in_a_mask_are_independent() -> None:
    kept = (drawn(7, 0.5) > 0).float() - 0.5
    for moved in (kept.roll(1, 0), kept.roll(1, 1), kept.T.reshape(kept.shape)):
        assert abs(float((kept * moved).mean())) < 0.25 * 5 / ONES.numel() ** 0.5


def test_gradients_are_those_of_what_was_kept() -> None:
    values = ONES.clone().requires_grad_()
    torch.manual_seed(7)
    with QuickDropout():
        found = functional.dropout(values, 0.3)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())


def test_nothing_is_dropped_outside_training_or_at_rate_zero_and_all_at_one() -> None:
    with QuickDropout():
        assert nn.Dropout(0.5).eval()(ONES) is ONES
        assert functional.dropout(ONES, 0.0) is ONES
        assert not functional.dropout(ONES, 1.0).any()
        assert (nn.Dropout(0.5).train()(ONES) == 0).any()


def test_a_compiled_step_keeps_its_own() -> None:
    with training_dropout(compiled=True):
        assert not torch.overrides._get_current_function_mode_stack()
