"""The pages of the steps: one file each, no network, no script, and what data says is text."""

import re

import pytest

from tokka.evaluation.report import pages

EVIL = "<script>alert(1)</script>"
CURVES = [
    {"epoch": 1.0, "step": 10, "train_loss": 2.0, "validation_loss": 2.1, "validation_accuracy": 0.4},
    {"epoch": 2.0, "step": 20, "train_loss": 1.0, "validation_loss": 1.5, "validation_accuracy": 0.6},
]
PHASES = [
    {"time": 100.0, "phase": "shadow", "action": "wait", "share": 0.0, "reasons": ["few rows"]},
    {"time": 130.0, "phase": "step", "action": "advance", "share": 0.25, "reasons": [EVIL]},
    {"time": 150.0, "phase": "step", "action": "roll_back", "share": 0.0, "reasons": ["slower"]},
]


def every():
    rule = {"rule": "same_rows", "verdict": "refuse", "reason": EVIL}
    yield "gate", pages.gate_page({"verdict": "refuse", "rules": [rule], "reasons": [EVIL]}, "help")
    outcome = {"verdict": "rolled_back", "reasons": [EVIL], "phases": PHASES, "share_seen": 0.25}
    yield "canary", pages.canary_page("3", outcome, "help")
    yield "card", pages.card_page("3", f"# Card\n\n{EVIL}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "help", [])
    yield "refusal", pages.refusal_page("Refused", "help", [EVIL], [{"file": "a.csv", "line": 3, "reason": EVIL}])
    classes = {"train": {EVIL: 9, "b": 4}, "validation": {EVIL: 1}, "test": {"b": 2}}
    counts = dict.fromkeys(
        ("exact_duplicates", "conflicting_targets", "near_duplicates", "rows_of_test_groups", "dropped_rows"), 0
    )
    summary = {"task": "classification", "rows": {"train": 13, "validation": 1, "test": 2}, "classes": classes}
    split = {"summary": {**summary, **counts}, "digest": "d", "dvc_md5": "m", "remote": EVIL, "origin": "computed"}
    yield "splits", pages.split_page(split, "help")
    trained = {"curves": CURVES, "metrics": {"steps": 20.0}, "base": {"name": EVIL}, "precision": "32", "threads": 2}
    yield "training", pages.training_page({**trained, "digest": "d"}, "classification", "help")
    plan = {
        "verdict": "made", "reasons": "made version 3", "key": "k", "inputs": {"finetune": {"code": "c", "params": {}}},
        "made": {"version": "3", "gate": {"verdict": "pass"}, "canary": {"verdict": "promoted"}},
        "params": {"registry": {"model": EVIL}, "task": {"type": "classification"}},
    }  # fmt: skip
    yield "preflight", pages.preflight_page(plan, [{"name": "disk", "found": EVIL}])


@pytest.mark.parametrize(("name", "page"), every(), ids=[name for name, _ in every()])
def test_a_page_needs_no_network_and_runs_nothing(name, page):
    assert page.startswith("<!doctype html>")
    assert "<script" not in page, "what data says is text"
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "default-src 'none'" in page
    assert not re.findall(r"#0102[0-9a-f]{2}", page), "a stand-in colour was left"


def test_what_refused_stands_first():
    well, slow = (
        {"rule": "a", "verdict": "pass", "reason": "well"},
        {"rule": "b", "verdict": "refuse", "reason": "slow"},
    )
    page = pages.gate_page({"verdict": "refuse", "reasons": ["slow"], "rules": [well, slow]}, "help")
    assert page.index("The candidate is refused") < page.index("slow") < page.index("well")


def test_a_card_links_the_version_and_the_run():
    page = pages.card_page(
        "3", "# Card", "help", [("This version in MLflow", "http://mlflow:5000/#/models/help/versions/3")]
    )
    assert 'href="http://mlflow:5000/#/models/help/versions/3"' in page


def test_a_rollout_shows_the_share_of_traffic_over_time():
    page = dict(every())["canary"]
    assert "share of live traffic over time" in page
    assert "Version 3 was rolled back" in page
    assert "roll back" in page and "wait" not in page.split("Decisions of the judge")[1]
