"""Events: each once, with the sentence, and never in the way."""

import pytest

from tests.fakes.kubernetes_api import FakeApi, Fault
from tests.fakes.world import Clock
from tokka.deployment.kserve.events import LONGEST, Events
from tokka.kubernetes.api import EVENTS, INFERENCE_SERVICES

DECISION = {
    "version": "2", "rollout": "r", "generation": 4, "phase": "step", "share": 0.25, "action": "roll_back",
    "topic": "live", "reasons": ["it fails", "often"], "time": 1.0,
}  # fmt: skip


@pytest.fixture
def api():
    found = FakeApi()
    found.objects[INFERENCE_SERVICES]["desk"] = {"metadata": {"name": "desk", "namespace": "models", "uid": "u"}}
    return found


def told(api):
    return list(api.objects[EVENTS].values())


def test_a_decision_is_told_once_also_by_a_successor(api):
    for events in (Events("desk", api, Clock()), Events("desk", api, Clock())):
        events.decided(DECISION)
        events.decided(DECISION)
    (one,) = told(api)
    assert (one["type"], one["reason"]) == ("Warning", "RolledBack")
    assert one["message"] == "version 2, step at 25%: it fails; often"
    about = one["involvedObject"]
    assert (about["kind"], about["name"], about["namespace"], about["uid"]) == (
        "InferenceService",
        "desk",
        "models",
        "u",
    )


def test_what_the_api_does_not_take_is_told_the_next_time(api):
    events = Events("desk", api, Clock())
    api.faults["create"] = [Fault.BROKEN]
    events.healed("x" * 5000)
    assert told(api) == []
    events.healed("x" * 5000)
    assert len(told(api)[0]["message"]) == LONGEST
