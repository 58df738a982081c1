"""kill -9 in the middle, the same call again: the same weights as without the kill."""

import signal
from pathlib import Path

import pytest

from tests.fixtures.forked import end, start_finetune
from tests.fixtures.training import MakeParams
from tests.fixtures.waiting import wait_for
from tokka.params import Params
from tokka.training.finetuning import finetune
from tokka.training.fit.checkpoints import LAST, find_checkpoint


def kill_after_checkpoint(prepared: Path, params: Params, place: Path, checkpoints: int) -> None:
    """Start a training and SIGKILL it after it has replaced its checkpoint so many times."""
    process = start_finetune(prepared, params, place / "model", place / "work")
    seen: set[int] = set()

    def is_enough() -> bool:
        if (place / "work" / LAST).exists():
            seen.add((place / "work" / LAST).stat().st_ino)
        return len(seen) >= checkpoints or not process.is_alive()

    wait_for(is_enough)
    assert end(process, signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("checkpoints", [1, 3])
def test_resume_after_sigkill_gives_the_same_weights(
    prepared: Path, make_params: MakeParams, tmp_path: Path, checkpoints: int
) -> None:
    params = make_params(epochs=12, early_stopping={"patience": 12})
    whole = finetune(prepared, params, tmp_path / "whole" / "model", tmp_path / "whole" / "work")
    (tmp_path / "killed").mkdir()
    kill_after_checkpoint(prepared, params, tmp_path / "killed", checkpoints)
    assert not (tmp_path / "killed" / "model").exists()
    resumed = finetune(prepared, params, tmp_path / "killed" / "model", tmp_path / "killed" / "work")
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["digest"] == whole["digest"]
    assert [curve["epoch"] for curve in resumed["curves"]] == [float(epoch) for epoch in range(1, 13)]


def test_a_finished_training_is_only_exported_again(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    """The kill may come after the last epoch, before the model folder is there."""
    first = finetune(prepared, make_params(), tmp_path / "one", tmp_path / "work")
    again = finetune(prepared, make_params(), tmp_path / "two", tmp_path / "work")
    assert again["digest"] == first["digest"]
    assert again["curves"] == first["curves"]


def test_an_early_stop_is_remembered(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(epochs=8, early_stopping={"patience": 1, "minimum_improvement": 0.9})
    first = finetune(prepared, params, tmp_path / "one", tmp_path / "work")
    again = finetune(prepared, params, tmp_path / "two", tmp_path / "work")
    assert again["digest"] == first["digest"]
    assert len(again["curves"]) == len(first["curves"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x80\x04cos\nsystem\n."])
def test_a_damaged_checkpoint_is_dropped(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LAST).write_bytes(content)
    (tmp_path / f".{LAST}.123.tmp").write_bytes(b"half")
    assert find_checkpoint(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_is_no_success(
    prepared: Path, make_params: MakeParams, tmp_path: Path, number: signal.Signals
) -> None:
    params = make_params(epochs=500, early_stopping={"patience": 500})
    process = start_finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    wait_for((tmp_path / "work" / LAST).exists)
    assert end(process, number) != 0
    assert not (tmp_path / "model").exists()
    assert find_checkpoint(tmp_path / "work") is not None
