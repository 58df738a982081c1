"""Groups of batches make one optimizer step, the last of an epoch as well; exhausted memory halves the batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.training import MakeParams
from tests.unit.training.setup.test_strategies import TORCH_ONLY, make_setup
from tokka import files
from tokka.errors import TokkaError
from tokka.model.network import Specialist
from tokka.training.finetuning import finetune
from tokka.training.fit.budget import Plan, plan_steps
from tokka.training.fit.lightning_module import FinetuningModule


def test_steps_are_groups(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(accumulate=4, epochs=2, export=TORCH_ONLY)  # 150 rows: 10 batches, 3 steps an epoch
    seen: list[tuple[int, float]] = []
    original = FinetuningModule.configure_gradient_clipping

    def note(module: FinetuningModule, optimizer: Any, *rest: Any, **named: Any) -> None:
        seen.append((module.global_step, optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["base_rate"]))
        original(module, optimizer, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuningModule, "configure_gradient_clipping", note)
        outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert outcome["metrics"]["steps"] == 6
    assert [step for step, _ in seen] == list(range(6))
    assert seen[-1][1] == pytest.approx(1 / 6)  # it would be zero one step later
    assert outcome["metrics"]["batch_size"] == 16


def test_a_group_has_the_mean_gradient_of_its_batches(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    """Also the last of an epoch, which holds 2 of 4: without dropout the gradients can be computed by hand."""
    params = make_params(
        accumulate=4, epochs=1, export=TORCH_ONLY, gradient_clip=1e9, precision="32", augmentation={"word_dropout": 0.0}
    )
    seen, batches = [], []
    step = FinetuningModule.training_step

    def forward(module: FinetuningModule, batch: Any, index: int) -> Any:
        module.model.eval()
        grown = {name: p.detach().clone() for name, p in module.model.named_parameters()} if index == 8 else None
        batches.append((index, batch, grown))
        return step(module, batch, index)

    def note(module: FinetuningModule, *_: Any, **__: Any) -> None:
        seen.append({name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuningModule, "training_step", forward)
        patch.setattr(FinetuningModule, "configure_gradient_clipping", note)
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert len(seen) == 3
    setup = make_setup(prepared, params, tmp_path)
    module = FinetuningModule(setup.model.eval(), params.finetuning, "classification")
    setup.model.load_state_dict({**setup.model.state_dict(), **batches[8][2]})
    for _, batch, _ in batches[8:]:
        torch.autograd.backward(module.loss(batch) / 2)
    wanted = setup.model.head.linear.weight.grad
    assert torch.allclose(seen[-1]["head.linear.weight"], wanted, atol=1e-5)


@given(
    epochs=st.integers(1, 6),
    batches=st.integers(1, 200),
    seconds=st.floats(5, 500),
    accumulate=st.integers(1, 16),
)
def test_a_budget_counts_optimizer_steps(epochs: int, batches: int, seconds: float, accumulate: int) -> None:
    plan = plan_steps(
        epochs=epochs,
        batches=batches,
        seconds=seconds,
        batch_seconds=0.3,
        validation_seconds=0.2,
        accumulate=accumulate,
    )
    assert plan.epochs * (plan.batches * 0.3 + 0.2) <= seconds
    assert plan.total == plan.epochs * math.ceil(plan.batches / accumulate)
    # A group is cut only where all batches fit, or not even one whole group does.
    assert plan.batches % accumulate == 0 or plan.batches == batches or plan.batches < accumulate


def test_a_budget_and_groups_end_to_end(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(epochs=1000, accumulate=3, schedule="cosine", time_budget="3s", export=TORCH_ONLY)
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    plan = Plan(**files.read_json(tmp_path / "work" / "plan.json"))
    # How much fits depends on the machine; that it is less than all, and that no more is done, does not.
    assert 0 < outcome["metrics"]["steps"] <= plan.total < 1000 * 4
    assert plan.accumulate == 3


def fits(limit: int) -> Any:
    """A forward pass that allocates, for a batch of more than `limit` rows, more than any machine has."""
    original = Specialist.forward

    def forward(self: Specialist, input_ids: Any, *rest: Any, **named: Any) -> Any:
        if self.training and len(input_ids) > limit:
            torch.empty(2**61, dtype=torch.uint8)
        return original(self, input_ids, *rest, **named)

    return forward


def test_exhausted_memory_halves_the_batch_and_says_so(
    prepared: Path, make_params: MakeParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"strategy": "gradual", "export": TORCH_ONLY, "learning_rate": "auto"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Specialist, "forward", fits(5))
        outcome = finetune(prepared, make_params(**options), tmp_path / "model", tmp_path / "work")
        again = finetune(prepared, make_params(**options), tmp_path / "again", tmp_path / "work")
    assert outcome["metrics"]["batch_size"] == 4
    said = capsys.readouterr()
    assert "memory ran out with batches of 16: starting again with 8" in said.out + said.err
    assert files.read_json(tmp_path / "work" / "batch.json") == {"batch_size": 4, "accumulate": 4}
    asked = make_params(**{**options, "batch_size": 4, "accumulate": 4})
    same = finetune(prepared, asked, tmp_path / "asked", tmp_path / "asked_work")
    assert outcome["weights_sha256"] == same["weights_sha256"] == again["weights_sha256"]


@pytest.mark.parametrize("rate", [2e-3, "auto"])
def test_memory_that_runs_out_late_starts_anew(
    prepared: Path, make_params: MakeParams, tmp_path: Path, rate: float | str
) -> None:
    """The checkpoints of the larger batches, and the rate found for them, are no beginning for the smaller ones."""
    options: dict[str, Any] = {"export": TORCH_ONLY, "learning_rate": rate}
    original, calls = FinetuningModule.training_step, []

    def late(module: FinetuningModule, batch: Any, index: int) -> Any:
        calls.append(module.current_epoch)
        if module.params.batch_size == 16 and module.current_epoch == 1:
            torch.empty(2**61, dtype=torch.uint8)
        return original(module, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuningModule, "training_step", late)
        outcome = finetune(prepared, make_params(**options), tmp_path / "model", tmp_path / "work")
    asked = make_params(**options, batch_size=8, accumulate=2)
    same = finetune(prepared, asked, tmp_path / "asked", tmp_path / "asked_work")
    assert 1 in calls
    assert outcome["weights_sha256"] == same["weights_sha256"]


def test_one_row_that_does_not_fit_is_refused(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Specialist, "forward", fits(0))
        with pytest.raises(TokkaError, match=r"memory ran out with finetuning\.batch_size 1") as caught:
            finetune(prepared, make_params(), tmp_path / "model", tmp_path / "work")
    assert "max_tokens" in caught.value.hint
    assert not (tmp_path / "model").exists()
