"""What of behaviour and insight becomes a metric of the run."""

import re

from tokka import files
from tokka.registry.quality_record import figures


def test_rates_and_shares_become_metrics_with_names_that_mlflow_takes(tmp_path):
    assert figures(tmp_path) == {}
    tests = [
        {"name": "Grüße & slips?", "subjects": {"candidate": {"rate": 0.9}, "champion": {"rate": 0.8}}},
        {"name": "skipped", "skipped": "no such class"},
    ]
    details = {
        "behaviour": {"robustness": {"candidate": 0.9, "champion": None}, "tests": tests},
        "insight": {"errors": {"share": 0.1, "flagged": 5}, "duplicates": {"problem": "not computed"}},
    }
    files.write_json(tmp_path / "details.json", details)
    found = figures(tmp_path)
    assert found["behaviour/candidate_robustness"] == 0.9
    assert found["insight/suspected"] == 5.0
    assert sorted(found.values()) == [0.1, 0.8, 0.9, 0.9, 5.0]
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. /:]+", name) for name in found)
