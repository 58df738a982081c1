"""Prices: the formula by hand, memory around the clock, tokens, and never less money for more work."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.evaluation.gate.prices import bill, formula, token_price, training_cost
from tokka.sections import General, Prices

PRICES = Prices(currency="EUR", cpu_hour=0.04, gb_hour=0.005, requests_per_day=100_000)


def test_a_month_by_hand():
    found = bill(cpu_ms=3.6, memory_mb=500, prices=PRICES)
    # 3 million predictions of 3.6 ms are 3 processor hours; half a GB stands for 720 hours.
    assert found.per_month == pytest.approx(3 * 0.04 + 0.5 * 720 * 0.005)
    assert found.per_1000 == pytest.approx(found.per_month / 3000)
    assert found.processes == 1


def test_memory_is_paid_even_without_load():
    idle = bill(cpu_ms=1.0, memory_mb=1000, prices=PRICES.model_copy(update={"requests_per_day": 1}))
    assert idle.per_month == pytest.approx(3.6, rel=1e-3)


def test_a_load_that_one_process_cannot_carry_pays_the_memory_of_several():
    busy = bill(cpu_ms=100.0, memory_mb=1000, prices=PRICES.model_copy(update={"requests_per_day": 2_000_000}))
    assert busy.processes == 3
    assert busy.per_month == pytest.approx(2e6 * 30 * 100 / 3.6e6 * 0.04 + 3 * 3.6)


def test_tokens_and_trainings():
    general = General(endpoint="http://x/v1", input_price=2.0, output_price=10.0)
    assert token_price(1000, 5, general) == pytest.approx(0.00205)
    assert training_cost(1800, PRICES) == pytest.approx(0.02)


def test_the_formula_names_every_price_and_the_load():
    told = formula(PRICES)
    assert all(part in told for part in ("100,000", "0.04 EUR", "0.005 EUR", "30 days"))


amounts = st.floats(0.01, 1e4)


@settings(deadline=None)
@given(amounts, amounts, st.floats(1.0, 3.0), st.integers(1, 10**8))
def test_more_work_or_memory_never_costs_less(cpu_ms, memory_mb, factor, load):
    prices = PRICES.model_copy(update={"requests_per_day": load})
    one = bill(cpu_ms, memory_mb, prices).per_month
    assert bill(cpu_ms * factor, memory_mb, prices).per_month >= one
    assert bill(cpu_ms, memory_mb * factor, prices).per_month >= one
