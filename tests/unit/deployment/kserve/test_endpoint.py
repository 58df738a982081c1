"""What is done for an endpoint: a pure choice. The rollouts themselves are in tests/faults/test_cluster_faults.py."""

import time
from types import SimpleNamespace

import pytest

from tests.unit.request_log.test_archive import DAY, LATER, machine, pod_writes
from tokka import objects
from tokka.deployment.kserve.endpoint import Endpoint, decide, turn_of
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.wishes import Wish, Wishes
from tokka.params import parse_params
from tokka.request_log import archive

ONE, TWO, THREE = (Revision(version=str(number), digest=str(number) * 64) for number in (1, 2, 3))
IDLE = State(endpoint="desk", champion=ONE)
SHADOW = State(endpoint="desk", champion=ONE, challenger=TWO, phase="shadow")
WATCH = State(endpoint="desk", champion=TWO, previous=ONE, phase="watch")
AB = State(endpoint="desk", champion=ONE, challenger=TWO, phase="ab", share=0.5, ab_share=0.5)
DONE = State(endpoint="desk", champion=TWO, previous=ONE)
TWO_IS_WANTED = Wish("desk", "2", "run", asked=100.0, taken=0.0, plan={})
THREE_IS_WANTED = TWO_IS_WANTED._replace(version="3")


def said(action, time):
    return [{"action": "wait", "time": time + 1}, {"action": action, "time": time}]


@pytest.mark.parametrize(
    ("state", "wish", "decisions", "todo"),
    [
        (IDLE, None, [], "project"),
        (IDLE, TWO_IS_WANTED, [], "drive"),
        (IDLE, TWO_IS_WANTED, said("roll_back", 99.0), "drive"),
        (IDLE, TWO_IS_WANTED, said("roll_back", 101.0), "project"),
        (SHADOW, TWO_IS_WANTED, said("roll_back", 99.0), "drive"),
        (SHADOW, TWO_IS_WANTED, said("go_on", 101.0), "drive"),
        (SHADOW, THREE_IS_WANTED, [], "drive"),
        (SHADOW, THREE_IS_WANTED, said("roll_back", 101.0), "give_up"),
        (SHADOW, None, [], "give_up"),
        (WATCH, TWO_IS_WANTED, said("promote", 101.0), "drive"),
        (WATCH, None, [], "go_on"),
        (WATCH, THREE_IS_WANTED, [], "drive"),
        (DONE, TWO_IS_WANTED, said("finish", 101.0), "project"),
        (AB, THREE_IS_WANTED, [], "go_on"),
        (AB, None, [], "go_on"),
    ],
)
def test_what_is_done_now(state, wish, decisions, todo):
    assert decide(state, wish, decisions) == todo


@pytest.mark.parametrize(
    ("state", "wish", "turn"),
    [
        (SHADOW, TWO_IS_WANTED._replace(taken=1.0), ""),
        (SHADOW, None, "ended"),
        (SHADOW, THREE_IS_WANTED, "ended"),
        (SHADOW, TWO_IS_WANTED, "begun anew"),
        (SHADOW, TWO_IS_WANTED._replace(version="1"), ""),
        (WATCH, None, ""),
        (AB, None, ""),
        (IDLE, THREE_IS_WANTED, ""),
    ],
)
def test_what_becomes_of_a_rollout_when_what_is_wanted_changes(state, wish, turn):
    assert turn_of(state, wish) == turn


def test_logs_are_sealed_and_deleted_by_what_params_say_but_not_while_they_are_needed(bucket, tmp_path):
    settings = machine(tmp_path, bucket, KUBERNETES_SERVICE_HOST="10.0.0.1")
    record, now = Record(settings.record_url), [time.time() + LATER]
    clock = SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic, sleep=time.sleep)
    here = Endpoint("desk", record, parse_params({}), settings, None, None, lambda params: None, clock)
    pod_writes(bucket, "desk", "3", "a")
    here.tidy()
    (name,) = objects.names(f"{bucket}/requests")
    assert name.endswith(archive.SEALED)
    Wishes(record).ask("desk", "3", "run", {"monitoring": {"retention_days": 2.0}})
    now[0] += 3 * DAY
    Attempts(record).begin("desk", "drift", "key")
    here.tidy()
    assert objects.names(f"{bucket}/requests") == [name], "a retraining reads it"
    Attempts(record).finish("desk", "promoted")
    here.tidy()
    assert objects.names(f"{bucket}/requests") == []
