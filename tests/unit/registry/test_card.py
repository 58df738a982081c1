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


def test_a_long_card_is_cut_at_a_line_and_says_so() -> None:
    rules = [{"rule": f"rule {number}", "verdict": "pass", "reason": "x" * 60} for number in range(100)]
    card = mlmodel.shortened(model_card(make_evaluation(), {**PASS, "rules": rules}, PROVENANCE))
    assert len(card) <= mlmodel.MAXIMUM_DESCRIPTION
    assert "model_card.md" in card.splitlines()[-1]
    assert card.splitlines()[-3].endswith(" |")
