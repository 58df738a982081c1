"""The recommendation: what it chooses, that order and ties do not matter, and that missing figures never win."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.evaluation.gate.recommendation import Row, Rule, as_dict, best, per_month, recommend
from tokka.sections import Prices

PRICES = Prices(cpu_hour=0.04, gb_hour=0.005, requests_per_day=100_000)
RULE = Rule(margin=0.02, latency_budget_ms=100.0)


def row(name, quality=0.9, kind="specialist", reach=0.01, **changes):
    bounds = {"quality": quality, "low": quality - reach, "high": quality + reach}
    return Row(name, kind, name.title(), **{**bounds, "p50_ms": 2.0, "p99_ms": 5.0, "cpu_ms": 2.0, "memory_mb": 200.0,
                                           **changes})  # fmt: skip


def test_a_better_specialist_is_worth_its_training():
    found = recommend([row("candidate"), row("linear", 0.8, "general", cpu_ms=0.1)], PRICES, RULE)
    assert (found.verdict, found.name, found.good_enough) == ("specialise", "candidate", ("candidate",))


def test_it_stays_general_when_the_general_one_is_not_worse_and_cheaper():
    rows = [row("candidate"), row("linear", 0.895, "general", gap_low=-0.015, cpu_ms=1.0)]
    found = recommend(rows, PRICES, RULE)
    assert (found.verdict, found.name) == ("stay general", "linear")
    assert "not worse than the best, Candidate," in found.reason


def test_a_specialist_that_beats_nothing_simple_is_not_recommended_however_good_its_point():
    simple = row("linear", 0.88, "simple", cpu_ms=3.0)
    close = row("candidate", 0.9, unbeaten=["Linear"])
    found = recommend([close, simple], PRICES, RULE)
    assert (found.verdict, found.name, found.good_enough) == ("stay simple", "linear", ("linear",))
    assert "Candidate does not beat Linear beyond chance, and so is not recommended" in found.reason
    assert recommend([replace(close, unbeaten=[]), simple], PRICES, RULE).verdict == "specialise"
    assert recommend([close], PRICES, RULE).verdict == "undecided"


def test_the_paired_difference_counts_before_the_own_interval():
    near = row("linear", 0.899, "general", gap_low=-0.03, cpu_ms=1.0)
    assert recommend([row("candidate"), near], PRICES, RULE).name == "candidate"
    assert recommend([row("candidate"), replace(near, gap_low=None)], PRICES, RULE).name == "linear"


def test_an_error_is_better_when_it_is_lower():
    rule = replace(RULE, higher=False, margin=0.1)
    rows = [row("candidate", 1.0), row("general", 2.0, "general", cpu_ms=0.1)]
    assert recommend(rows, PRICES, rule).name == "candidate"
    assert recommend([*rows, row("int8", 1.05, cpu_ms=1.0)], PRICES, rule).name == "int8"


def test_what_is_too_slow_is_not_chosen_and_does_not_set_the_bar():
    slow = row("prompted", 0.99, "general", p99_ms=900.0)
    assert recommend([row("candidate"), slow], PRICES, RULE).name == "candidate"
    found = recommend([slow], PRICES, RULE)
    assert (found.verdict, found.name) == ("undecided", "")
    assert "100 ms" in found.reason


@pytest.mark.parametrize("missing", ["quality", "low", "high", "p99_ms", "cpu_ms", "memory_mb"])
def test_a_row_without_a_figure_is_never_chosen(missing):
    rows = [row("candidate"), replace(row("linear", 0.99, "general"), **{missing: None})]
    assert recommend(rows, PRICES, RULE).name == "candidate"
    assert recommend(rows[1:], PRICES, RULE).verdict == "undecided"


def test_a_row_with_a_problem_is_never_chosen_and_nothing_gives_no_answer():
    assert recommend([row("a", 0.9), row("b", 0.99, problem="unreachable")], PRICES, RULE).name == "a"
    assert recommend([], PRICES, RULE).verdict == "undecided"


def test_tokens_are_paid_by_the_load():
    asked = row("prompted", kind="general", cpu_ms=None, memory_mb=None, token_price=0.0001)
    assert per_month(asked, PRICES) == pytest.approx(300.0)
    assert as_dict(asked, PRICES)["per_1000"] == pytest.approx(0.1)


values, prices = st.floats(0.05, 0.95), st.floats(0.1, 50.0)


@st.composite
def tables(draw):
    count = draw(st.integers(1, 6))
    return [
        row(f"way{number}", draw(values), draw(st.sampled_from(["specialist", "simple", "general"])),
            reach=draw(st.floats(0.0, 0.05)), cpu_ms=draw(st.one_of(st.none(), prices)), p99_ms=draw(st.floats(1, 200)),
            gap_low=draw(st.one_of(st.none(), st.floats(-0.2, 0.0))))
        for number in range(count)
    ]  # fmt: skip


@settings(deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, random):
    mixed = list(rows)
    random.shuffle(mixed)
    first, second = recommend(rows, PRICES, RULE), recommend(mixed, PRICES, RULE)
    assert (first.verdict, first.name, first.reason) == (second.verdict, second.name, second.reason)


@settings(deadline=None)
@given(tables())
def test_the_chosen_one_keeps_the_rule(rows):
    found, leader = recommend(rows, PRICES, RULE), best(rows, PRICES, RULE)
    if leader is None:
        assert found.verdict == "undecided"
        return
    chosen = next(it for it in rows if it.name == found.name)
    assert chosen.p99_ms <= RULE.latency_budget_ms
    assert per_month(chosen, PRICES) <= per_month(leader, PRICES)
    assert leader.name in found.good_enough
    words = {"specialist": "specialise", "simple": "stay simple", "general": "stay general"}
    assert found.verdict == words[chosen.kind]


@settings(deadline=None)
@given(tables(), st.floats(0.0, 0.1), st.floats(0.0, 0.1))
def test_a_wider_margin_never_costs_more(rows, margin, more):
    narrow, wide = (recommend(rows, PRICES, replace(RULE, margin=width)) for width in (margin, margin + more))
    costs = {it.name: per_month(it, PRICES) for it in rows}
    if narrow.name:
        assert costs[wide.name] <= costs[narrow.name]


@settings(deadline=None)
@given(tables())
def test_a_copy_that_costs_as_much_and_is_worse_changes_nothing(rows):
    found = recommend(rows, PRICES, RULE)
    if found.name:
        chosen = next(it for it in rows if it.name == found.name)
        worse = replace(chosen, name="zzz", quality=chosen.quality - 0.001, low=chosen.low - 0.001)
        assert recommend([*rows, worse], PRICES, RULE).name == found.name
