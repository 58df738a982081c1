"""What of the evidence becomes a metric of the run."""

import re

from tokka import files
from tokka.registry import metrics
from tokka.registry.metrics import of_details


def test_rates_and_shares_become_metrics_with_names_that_mlflow_takes():
    assert of_details({}) == {}
    tests = [
        {"name": "Grüße & slips?", "subjects": {"candidate": {"rate": 0.9}, "champion": {"rate": 0.8}}},
        {"name": "skipped", "skipped": "no such class"},
    ]
    found = of_details({
        "behaviour": {"robustness": {"candidate": 0.9, "champion": None}, "tests": tests},
        "insight": {"errors": {"share": 0.1, "flagged": 5}, "duplicates": {"problem": "not computed"}},
    })  # fmt: skip
    assert found["behaviour/candidate_robustness"] == 0.9
    assert found["insight/suspected"] == 5.0
    assert sorted(found.values()) == [0.1, 0.8, 0.9, 0.9, 5.0]
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. /:]+", name) for name in found)


def test_what_the_decision_was_made_from_is_logged():
    rows = [{"name": "linear", "quality": 0.8, "per_month": 4.2, "p99_ms": None}]
    curve = [{"share": 0.1, "value": 0.6}, {"share": 0.3, "value": None}]
    wanted = {"ways/linear_quality": 0.8, "ways/linear_per_month": 4.2, "learning_curve/0.1": 0.6}
    assert of_details({"decision": {"rows": rows, "curve": curve}}) == wanted


def test_a_pod_finds_the_training_of_another_pod(tmp_path):
    files.write_json(tmp_path / "outcome", {"digest": "abc", "metrics": {"loss": 0.5}, "curves": [{"step": 1}]})
    metrics.bring_training(tmp_path / "home", tmp_path / "outcome")
    assert metrics.find_training(tmp_path / "home", "abc")["metrics"] == {"loss": 0.5}
    assert metrics.find_training(tmp_path / "home", "other") is None
