"""The model card says what was measured, and says so where nothing was."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry.conftest import PASS, PROVENANCE, REFUSE, make_evaluation
from tokka.registry import mlmodel
from tokka.registry.card import model_card


def test_the_card_holds_figures_intervals_slices_limits_and_provenance() -> None:
    card = model_card(make_evaluation(), PASS, PROVENANCE, model="helpdesk")
    assert card.startswith("# helpdesk: classification, accuracy 0.9400 [0.9200, 0.9600]")
    assert "Synthetic" not in card
    assert "| general | accuracy | +0.5400 [+0.5000, +0.5800] | 0.001 |" in card
    assert card.index("e\\|mail") < card.index("chat"), "the worst slice comes first"
    assert "Intended use and limits" in card
    assert "## Gate: pass" in card
    assert "| commit | abc |" in card


def test_synthetic_data_and_an_override_are_said_at_the_top() -> None:
    card = model_card(make_evaluation(), REFUSE, {}, synthetic=True, override="because\n# I say so")
    assert card.index("Synthetic data") < card.index("## What it is")
    assert "Registered past the gate" in card
    assert "\n# I say so" not in card


def test_a_card_of_nothing_claims_nothing() -> None:
    card = model_card({}, {}, {})
    assert "never decided" in card
    assert "There was nothing to compare it with" in card
    assert "0." not in card


@given(st.text(max_size=50))
def test_no_text_breaks_out_of_its_cell(text: str) -> None:
    rule = {"rule": "odd", "verdict": "pass", "reason": text}
    card = model_card(make_evaluation(), {**PASS, "rules": [rule]}, PROVENANCE)
    row = next(line for line in card.split("\n") if line.startswith("| odd |"))
    assert row.endswith(" |")
    assert row.replace("\\|", "").count("|") == 4
    assert "<" not in row


def test_a_long_card_leaves_out_what_is_needed_least_and_says_so() -> None:
    rules = [{"rule": f"rule {number}", "verdict": "pass", "reason": "x" * 60} for number in range(100)]
    whole = model_card(
        make_evaluation(), {**PASS, "rules": rules}, PROVENANCE, links=[("Its evaluation", "http://m/1")]
    )
    card = mlmodel.shortened(whole)
    assert len(card) <= mlmodel.MAXIMUM_DESCRIPTION
    note = card.splitlines()[-1]
    assert note.startswith("(Not here: Made of; Intended use and limits; Gate: pass.") and "model_card.md" in note
    for kept in ("| Gate | pass |", "| Commit | abc |", "+0.5400 [+0.5000", "## Slices", "e\\|mail", "(http://m/1)"):
        assert kept in card


def test_what_is_still_too_long_is_cut_at_a_line() -> None:
    evaluation = make_evaluation()
    evaluation["candidate"]["metrics"] |= {f"metric {number}": {"value": 0.5} for number in range(300)}
    card = mlmodel.shortened(model_card(evaluation, PASS, PROVENANCE))
    assert len(card) <= mlmodel.MAXIMUM_DESCRIPTION
    assert "the end. The whole card" in card.splitlines()[-1]
    assert card.splitlines()[-3].endswith(" |")


def test_a_short_card_is_the_description() -> None:
    card = model_card(make_evaluation(), PASS, PROVENANCE)
    assert mlmodel.shortened(card) == card


def test_why_it_was_trained_stands_in_the_card() -> None:
    cause = {"cause": "drift", "time": 0.0, "reasons": ["2 of 3 windows | drifted", "labels: 0.91 of 0.94"]}
    card = model_card(make_evaluation(), PASS, PROVENANCE, cause=cause)
    assert "Asked for by drift at 1970-01-01 00:00 UTC, after a look at the traffic:" in card
    assert "- 2 of 3 windows \\| drifted\n- labels: 0.91 of 0.94\n" in card
    assert card.index("Against others") < card.index("## Why it was trained") < card.index("## Slices")
    assert "Why it was trained" not in model_card(make_evaluation(), PASS, PROVENANCE)


def test_the_forecast_of_the_rollout_stands_in_the_card_with_what_it_cannot_see() -> None:
    needs = {name: {"1": None, "2": 30.0, "5": 0.5} for name in ("wrong", "errors", "slow")}
    forecast = {
        "today": {"hours": 24.0, "requests": 1200, "users": 300}, "shadow_h": 6.0,
        "steps": [{"share": 0.05, "lasts_h": 2.0, "users": 4.0, "needs_h": needs}],
        "unseen": ["wrong answers: no | label"],
    }  # fmt: skip
    links = [("Its evaluation", "http://127.0.0.1:8090/#/runs/1")]
    card = model_card(make_evaluation(), PASS, PROVENANCE, forecast=forecast, links=links)
    assert "| 5 % | 2 h | 4 | never / 30 h / 30 min |" in card
    assert "- Cannot be seen: wrong answers: no \\| label" in card
    assert "1,200 requests of 300 users" in card
    assert "[Its evaluation](http://127.0.0.1:8090/#/runs/1)" in card
