"""Training on several devices, with processes of one machine in their place: the same batches, shared."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.tiny_model import make_tiny_base
from tests.fixtures.training import MakeParams
from tests.unit.training.fit.test_checkpoints import kill_after_checkpoint
from tokka.errors import TokkaError
from tokka.training.finetuning import Outcome, finetune
from tokka.training.fit import ddp
from tokka.training.fit.lightning_module import FinetuningModule, step_seed
from tokka.training.setup.batches import LengthBatches

# A rank that notes what it learns from, and is else as it always is.
NOTING = """
import sys
from pathlib import Path
from tests.unit.training.fit.test_ddp import note_rows
from tokka.training.fit.rank_process import main
note_rows(Path({folder!r}))
main(Path(sys.argv[1]))
"""


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


def test_two_processes_learn_from_each_row_once_per_epoch_what_one_learns(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise, which each rank draws for itself, the mean of two halves is the gradient of the whole batch."""
    monkeypatch.setattr(FinetuningModule, "training_step", FinetuningModule.training_step)
    monkeypatch.setattr(ddp, "COMMAND", (sys.executable, "-c", NOTING.format(folder=str(tmp_path))))
    note_rows(tmp_path)
    both, alone = (learned(prepared, make_params, tmp_path, devices) for devices in (2, 1))
    ranks = [noted(tmp_path / f"rank{rank}-of-2-gloo.txt") for rank in (0, 1)]
    for epoch in range(3):
        assert sorted(row for rank in ranks for row in rank[epoch]) == list(range(150))
        assert len(ranks[0][epoch]) == len(ranks[1][epoch])
    assert sorted(noted(tmp_path / "rank0-of-1.txt")[2]) == list(range(150))
    assert len(both["curves"]) == len(alone["curves"]) == 3
    for ours, theirs in zip(both["curves"], alone["curves"], strict=True):
        assert ours["step"] == theirs["step"]
        # In the order of a sum: rank 0's training loss is that of its own share, and is not compared.
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-5)
        assert ours["validation_accuracy"] == theirs["validation_accuracy"]


def learned(prepared: Path, make_params: MakeParams, place: Path, devices: int) -> Outcome:
    """A training without dropout on so many processes."""
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    base = make_tiny_base(place / f"base{devices}", **quiet)
    params = make_params(epochs=3, devices=devices, augmentation={"word_dropout": 0.0}, head_warm_start=False)
    params = params.model_copy(update={"model": params.model.model_copy(update={"base": str(base)})})
    return finetune(prepared, params, place / f"model{devices}", place / f"work{devices}")


def note_rows(folder: Path) -> None:
    """Let this process write down, epoch by epoch, the rows of the batches that it learns from."""
    learn = FinetuningModule.training_step

    def noting(self: FinetuningModule, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        of = f"-{torch.distributed.get_backend()}" if torch.distributed.is_initialized() else ""
        place = folder / f"rank{self.global_rank}-of-{self.trainer.world_size}{of}.txt"
        with place.open("a") as file:
            print(self.current_epoch, *batch["row"].tolist(), file=file)
        return learn(self, batch, batch_idx)

    FinetuningModule.training_step = noting  # type: ignore[method-assign]


def noted(path: Path) -> dict[int, list[int]]:
    """What `note_rows` wrote: rows by epoch, repetitions included."""
    found: dict[int, list[int]] = {}
    for line in path.read_text().splitlines():
        epoch, *rows = map(int, line.split())
        found.setdefault(epoch, []).extend(rows)
    return found


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
