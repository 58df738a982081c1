"""The planned steps fit into the budget, and use it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import UsageError
from tokka.sections import Finetuning
from tokka.training.fit.budget import Plan, budget_seconds, plan_steps, remaining_batches


@given(
    epochs=st.integers(1, 20),
    batches=st.integers(1, 500),
    seconds=st.floats(5, 1000),
    step=st.floats(0.001, 1.0),
    validation=st.floats(0, 1.0),
)
def test_a_plan_fits_and_never_exceeds_the_wish(
    epochs: int, batches: int, seconds: float, step: float, validation: float
) -> None:
    plan = plan_steps(
        epochs=epochs, batches=batches, seconds=seconds, batch_seconds=step, validation_seconds=validation
    )
    assert plan.total * step + plan.epochs * validation <= seconds
    assert 1 <= plan.epochs <= epochs
    assert 1 <= plan.batches <= batches


def test_the_budget_is_used() -> None:
    plan = plan_steps(epochs=6, batches=141, seconds=60, batch_seconds=0.2, validation_seconds=1)
    assert 0.9 * 60 <= plan.total * 0.2 + plan.epochs <= 60


def test_enough_time_means_the_whole_wish() -> None:
    plan = plan_steps(epochs=6, batches=141, seconds=1e6, batch_seconds=0.2, validation_seconds=1)
    assert plan == Plan(epochs=6, batches=141)


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="one step needs"):
        plan_steps(epochs=6, batches=141, seconds=1, batch_seconds=2, validation_seconds=1)


@given(batches=st.integers(1, 500), left=st.integers(1, 9), seconds=st.floats(-10, 1000), epoch=st.floats(0.1, 100))
def test_what_is_left_never_grows(batches: int, left: int, seconds: float, epoch: float) -> None:
    found = remaining_batches(plan_batches=batches, epochs_left=left, seconds_left=seconds, epoch_seconds=epoch)
    assert 1 <= found <= batches


@pytest.mark.parametrize(("text", "seconds"), [("120s", 120.0), ("2m", 120.0), ("1h", 3600.0), (None, None)])
def test_units(text: str | None, seconds: float | None) -> None:
    assert budget_seconds(Finetuning(time_budget=text)) == seconds
