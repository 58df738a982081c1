"""Training on several devices, with processes of one machine in their place: the same batches, shared."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.training import MakeParams
from tests.unit.training.fit.test_checkpoints import kill_after_checkpoint
from tokka.errors import TokkaError
from tokka.training.finetuning import finetune
from tokka.training.fit import ddp
from tokka.training.fit.lightning_module import step_seed
from tokka.training.setup.batches import LengthBatches


@given(rows=st.integers(1, 300), batch=st.integers(1, 40), count=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_ranks_share_every_batch(rows: int, batch: int, count: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, rows)
    whole = list(LengthBatches(lengths, batch_size=batch, seed=seed))
    parts = [list(LengthBatches(lengths, batch_size=batch, seed=seed, rank=rank, ranks=count)) for rank in range(count)]
    for number, wanted in enumerate(whole):
        shares = [part[number] for part in parts]
        assert all(shares), "a rank without rows would be waited for"
        assert {row for share in shares for row in share} == set(wanted)
        if len(wanted) >= count:
            assert sorted(row for share in shares for row in share) == sorted(wanted)


def test_every_rank_draws_its_own_noise() -> None:
    assert len({step_seed(7, 3, part, rank) for part in range(3) for rank in range(3)}) == 9


@pytest.mark.parametrize("strategy", ["full", "gradual"])
def test_two_ranks_learn_and_repeat_themselves_also_after_a_kill(
    strategy: str, prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    epochs = 8 if strategy == "full" else 4
    params = make_params(epochs=epochs, early_stopping={"patience": epochs}, devices=2, strategy=strategy)
    whole = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    alone = finetune(prepared, params.model_copy(update={"finetuning": params.finetuning.model_copy(
        update={"devices": 1})}), tmp_path / "alone", tmp_path / "alone-work")  # fmt: skip
    assert whole["metrics"]["validation_accuracy"] > 0.8
    assert whole["metrics"]["steps"] == alone["metrics"]["steps"]
    assert whole["weights_sha256"] != alone["weights_sha256"]
    assert not left_behind()
    if strategy != "full":
        return
    (tmp_path / "killed").mkdir()
    kill_after_checkpoint(prepared, params, tmp_path / "killed", 2)
    resumed = finetune(prepared, params, tmp_path / "killed" / "model", tmp_path / "killed" / "work")
    assert resumed["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize(
    ("ending", "message"), [("sys.exit('the disk is full')", "the disk is full"), ("sys.exit(86)", "memory ran out")]
)
def test_a_rank_that_ends_is_said_and_nobody_waits_for_it(
    ending: str, message: str, prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddp, "COMMAND", (sys.executable, "-c", f"import sys; {ending}"))
    params = make_params(epochs=1, devices=2, batch_size=1)
    with pytest.raises(TokkaError, match=message):
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert not left_behind()
    assert not (tmp_path / "model").exists()


def left_behind() -> list[psutil.Process]:
    """Ranks that outlived the training."""
    children = psutil.Process().children(recursive=True)
    # An orphan of another test may have been adopted by this process, and has ended.
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "tokka.training.fit.rank_process" in " ".join(child.cmdline())]
