"""Cosine beside linear, and a learning rate that a sweep finds without touching the model."""

from pathlib import Path

import pytest
import torch

from tests.fixtures.training import MakeParams
from tests.unit.training.setup.test_strategies import TORCH_ONLY, make_setup
from tokka import files
from tokka.errors import TokkaError
from tokka.training.finetuning import finetune
from tokka.training.fit.lr_finder import BOUNDS, STEPS, pick_rate, resolve_learning_rate, sweep
from tokka.training.setup.training_setup import own_randomness_and_threads


def test_a_sweep_is_repeatable_and_leaves_the_model_alone(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    params = make_params(learning_rate="auto")
    with own_randomness_and_threads(params):
        setup = make_setup(prepared, params, tmp_path)
        before = {name: value.clone() for name, value in setup.model.state_dict().items()}
        first, second = sweep(setup), sweep(setup)
        state = torch.random.get_rng_state()
        resolve_learning_rate(setup, tmp_path)
        assert torch.equal(state, torch.random.get_rng_state())
    assert first == second
    assert 2 < len(first[0]) <= STEPS
    assert all(torch.equal(value, before[name]) for name, value in setup.model.state_dict().items())
    assert all(parameter.grad is None for parameter in setup.model.parameters())
    assert setup.params.finetuning.learning_rate == pick_rate(*first)
    assert setup.data.params.learning_rate == pick_rate(*first)


def test_a_rate_that_was_found_is_used_again(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(learning_rate="auto", export=TORCH_ONLY)
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    found = files.read_json(tmp_path / "work" / "learning_rate.json")["learning_rate"]
    assert outcome["metrics"]["learning_rate"] == found
    assert BOUNDS[0] <= found <= BOUNDS[1]
    (tmp_path / "other").mkdir()
    files.write_json(tmp_path / "other" / "learning_rate.json", {"learning_rate": 1.5e-3})
    kept = finetune(prepared, params, tmp_path / "kept", tmp_path / "other")
    named = make_params(learning_rate=1.5e-3, export=TORCH_ONLY)
    same = finetune(prepared, named, tmp_path / "named", tmp_path / "named_work")
    assert kept["metrics"]["learning_rate"] == 1.5e-3
    assert kept["weights_sha256"] == same["weights_sha256"]


def test_the_pick_lies_below_the_valley() -> None:
    rates = [10.0 ** (power / 4) for power in range(-24, 1)]
    losses = [2.0 - (index / 12 if index < 12 else 1 - (index - 12) / 2) for index in range(25)]
    assert rates[12] / 20 <= pick_rate(rates, losses) <= rates[16] / 10
    assert pick_rate(rates, [*losses[:4], float("nan")]) == BOUNDS[0]
    assert pick_rate(rates[:1], [float("inf")]) == BOUNDS[0]
    assert pick_rate(rates, [2.0 - index / 100 for index in range(25)]) == BOUNDS[1]


def test_a_divergence_names_the_rate_that_was_found(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(learning_rate="auto", gradient_clip=1e30, weight_decay=1e9, warmup_share=0.0)
    (tmp_path / "work").mkdir()
    files.write_json(tmp_path / "work" / "learning_rate.json", {"learning_rate": 0.5})
    with pytest.raises(TokkaError, match="diverged") as caught:
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert "now 0.5" in caught.value.hint
