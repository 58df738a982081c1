"""What people are told of a rollout, a retraining: once, with the reasons, in the transaction of what happened."""

import json

import pytest

from tests.fakes.world import Model, World
from tokka.deployment.reconcile import rollback
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.notifications.events import message
from tokka.notifications.outbox import Outbox
from tokka.registry import bundle, signing

SHORT = {"quality_margin": 0.1, "step_requests": 60, "watch_s": 0.6, "maximum_wait_s": 20}


@pytest.fixture
def here(tmp_path):
    return World(tmp_path, canary=SHORT)


def told(here) -> list[tuple[str, str, str]]:
    rows = reversed(Outbox(here.record.url).rows())
    return [(row.kind, (event := json.loads(row.event))["version"], event["what"]) for row in rows]


def test_a_promotion_is_told_step_by_step_and_nobody_is_told_again(here):
    here.rollout()
    wanted = [
        ("canary_step", "2", "Version 2 is on trial: 20% of live traffic goes to it."),
        ("canary_step", "2", "Version 2 is on trial: 50% of live traffic goes to it."),
        ("promoted", "2", "Version 2 is the champion in the place of version 1, and is watched now."),
    ]
    assert told(here) == wanted
    here.rollout()
    assert told(here) == wanted
    rollback(here.record, here.state.endpoint, "complaints")
    assert told(here)[3:] == [
        ("rolled_back", "2", "Version 2 was the champion and is taken back: version 1 serves again."),
    ]  # fmt: skip


def test_the_report_of_the_run_that_made_the_version_is_linked(here):
    payload = json.dumps({"run_id": "a1b2"}).encode()
    Evidence(here.record, here.state.endpoint).keep("2", "d" * 64, signing.seal(bundle.KIND, payload, b"unread"))
    here.rollout()
    (row, *_) = Outbox(here.record.url).rows()
    links = message(row.id, row.time, row.event, "http://mlflow").links
    assert dict(links) == {
        "Version": "http://mlflow/#/models/desk/versions/2",
        "Report": "http://mlflow/#/runs/a1b2",
    }


def test_what_is_refused_before_anything_is_changed_is_told_with_the_reason(tmp_path):
    here = World(tmp_path, challenger=Model(signed=False), canary=SHORT)
    for _ in range(2):
        assert here.rollout().verdict == "rolled_back"
    assert told(here) == [("refused", "2", "Version 2 is refused before anything was changed.")]


def test_a_retraining_is_told_once_for_a_job_with_its_reasons(record_url):
    attempts = Attempts(Record(record_url))
    for _ in range(2):
        attempts.begin("desk", "drift", "key", "job", reasons=["2 of 3 windows drifted"])
    attempts.begin("desk", "person", "key", "other")
    rows = [(row.kind, json.loads(row.event)["why"]) for row in Outbox(record_url).rows()]
    assert sorted(rows) == [("retraining_started", []), ("retraining_started", ["2 of 3 windows drifted"])]
