"""A retraining that starts is told at once, by the step that starts it."""

import json

from tests.fixtures.receivers import EventServer
from tokka.params import parse_params
from tokka.settings import Settings
from tokka.steps import detect_drift


def test_that_a_retraining_has_started_is_told_from_the_step_itself(tmp_path, monkeypatch):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)})
    settings.home.mkdir()
    params = parse_params({"notifications": {"receivers": [{"name": "bus", "protocol": "cloudevents"}]}})
    (tmp_path / "out").mkdir()
    with EventServer() as bus:
        monkeypatch.setenv("TOKKA_NOTIFY_URLS", f"bus={bus.url()}")
        outcome = detect_drift.run(params, settings, "person", tmp_path / "out")
        told = [json.loads(body) for _, body in bus.requests]
    assert outcome["verdict"] == "retrain"
    assert [one["type"] for one in told] == ["tokka.retraining_started"]
