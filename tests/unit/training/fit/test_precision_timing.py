"""`precision: auto` times bf16 beside float32 once, and the training is the one that was asked for by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.training import MakeParams
from tests.unit.training.setup.test_strategies import TORCH_ONLY, make_setup
from tokka import files
from tokka.model.folder import read_model_config
from tokka.settings import Settings
from tokka.training.finetuning import finetune, finetune_step
from tokka.training.fit import precision_timing
from tokka.training.fit.precision_timing import KEPT, faster, resolve_precision, time_steps
from tokka.training.setup import training_setup
from tokka.training.setup.precision import PRECISIONS, Precision
from tokka.training.setup.training_setup import own_randomness_and_threads

SLOWER: dict[Precision, float] = {"bf16": 2.0, "32": 1.0}
FASTER: dict[Precision, float] = {"bf16": 1.0, "32": 2.0}


@pytest.fixture(autouse=True)
def bf16_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_setup, "has_fast_bf16", lambda: True)


def refuse(*_: object) -> None:
    raise AssertionError("timed")


@pytest.mark.parametrize(("seconds", "chosen"), [(FASTER, "bf16"), (SLOWER, "32")])
def test_auto_gives_the_bytes_that_its_choice_gives_by_name(
    seconds: dict[Precision, float], chosen: str, prepared: Path, make_params: MakeParams, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def timed(setup: Any) -> dict[Precision, float]:
        assert set(time_steps(setup)) == set(PRECISIONS)
        return seconds

    options: dict[str, Any] = {"strategy": "gradual", "augmentation": {"typos": 0.5, "mixup": 0.5}}
    named = finetune(prepared, make_params(**options, precision=chosen), tmp_path / "named", tmp_path / "named_work")
    monkeypatch.setattr(precision_timing, "time_steps", timed)
    auto = finetune(prepared, make_params(**options, precision="auto"), tmp_path / "auto", tmp_path / "auto_work")
    assert auto["digest"] == named["digest"]
    assert auto["precision"] == named["precision"]
    assert read_model_config(tmp_path / "auto").precision == chosen
    assert f"precision {chosen}: a step takes" in capsys.readouterr().err


def test_the_timing_leaves_model_and_randomness_as_they_are(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    params = make_params(precision="auto")
    with own_randomness_and_threads(params):
        setup = make_setup(prepared, params, tmp_path)
        before = {name: value.clone() for name, value in setup.model.state_dict().items()}
        state = torch.random.get_rng_state()
        resolve_precision(setup, tmp_path)
        assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in setup.model.state_dict().items())
    assert all(parameter.grad is None for parameter in setup.model.parameters())
    # What other processes of the same training are told.
    assert setup.specification()["params"]["finetuning"]["precision"] == setup.precision


def test_a_resumed_training_and_another_export_take_what_was_chosen(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_timing, "time_steps", lambda _: FASTER)
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})
    auto = make_params(precision="auto", epochs=1)
    first = finetune_step(prepared, auto, settings, tmp_path / "one", "d" * 64)
    monkeypatch.setattr(precision_timing, "time_steps", refuse)
    fp32 = make_params(precision="auto", epochs=1, export={"serve": "fp32"})
    other = finetune_step(prepared, fp32, settings, tmp_path / "two", "d" * 64)
    assert other["training_reused"]
    assert other["precision"] == first["precision"] == "bf16-mixed"
    files.write_json(tmp_path / "work" / KEPT, {"precision": "bf16", "reason": "chosen before the kill"})
    resumed = finetune(prepared, auto, tmp_path / "three", tmp_path / "work")
    assert resumed["digest"] == first["digest"]


@pytest.mark.parametrize("options", [{}, {"strategy": "frozen"}])
def test_nothing_is_timed_without_the_arithmetic_or_without_a_step(
    options: dict[str, Any], prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_setup, "has_fast_bf16", lambda: bool(options))
    monkeypatch.setattr(precision_timing, "time_steps", refuse)
    params = make_params(**options, precision="auto", epochs=1, export=TORCH_ONLY)
    assert finetune(prepared, params, tmp_path / "model", tmp_path / "work")["precision"] == "32-true"


def test_a_difference_within_the_noise_goes_to_float32() -> None:
    assert faster({"bf16": 0.95, "32": 1.0}) == faster({"bf16": 1.0, "32": 1.0}) == faster(SLOWER) == "32"
    assert faster({"bf16": 0.8, "32": 1.0}) == "bf16"


def test_memory_that_runs_out_in_the_timing_ends_nothing(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(_: object) -> None:
        torch.empty(2**61, dtype=torch.uint8)

    monkeypatch.setattr(precision_timing, "time_steps", exhaust)
    params = make_params(precision="auto", epochs=1, export=TORCH_ONLY)
    assert finetune(prepared, params, tmp_path / "model", tmp_path / "work")["precision"] == "bf16-mixed"
