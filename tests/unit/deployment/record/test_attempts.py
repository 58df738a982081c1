"""Retrainings as the drift policy counts them: one that nobody works on any more does not hold up the next."""

import pytest

from tests.fakes.world import Clock
from tokka.deployment.record.attempts import Attempts, oldest_deletable
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.leases import LEASE_S, Leases, Lost
from tokka.deployment.record.state import State
from tokka.monitoring.drift.policy import Attempt
from tokka.request_log.segments import DAY_SECONDS


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(record_url, clock):
    return RecordDatabase(record_url, clock)


def outcomes(record):
    return [(one.trigger_key, one.outcome) for one in Attempts(record).all("desk")]


def test_one_that_is_under_way_is_finished_by_its_own_job_alone(record):
    attempts = Attempts(record)
    attempts.begin("desk", "drift", "k", "one")
    attempts.begin("desk", "drift", "k", "one")
    attempts.finish("desk", "refused", "two")
    assert outcomes(record) == [("k", "running")]
    attempts.finish("desk", "promoted", "one")
    assert outcomes(record) == [("k", "promoted")]


def test_why_the_retraining_of_a_job_was_started_is_known_while_it_works(record, clock):
    attempts = Attempts(record)
    attempts.begin("desk", "drift", "k", "one", reasons=["2 of 3 windows drifted"])
    found = attempts.why("desk", "one")
    assert (found["cause"], found["reasons"]) == ("drift", ["2 of 3 windows drifted"])
    assert attempts.why("desk", "two") == attempts.why("desk", "") == attempts.why("other", "one") == {}


def test_one_whose_lease_ran_out_counts_as_failed(record, clock):
    Attempts(record).begin("desk", "drift", "k", "one")
    clock.sleep(LEASE_S - 1)
    Leases(record).renew("one")
    clock.sleep(LEASE_S - 1)
    assert outcomes(record) == [("k", "running")]
    clock.sleep(2)
    assert outcomes(record) == []


def test_one_of_a_run_that_failed_is_closed_and_one_that_waits_for_a_person_stays_open(record):
    attempts, leases = Attempts(record), Leases(record)
    attempts.begin("desk", "drift", "k", "one")
    assert leases.end("one", succeeded=False)["attempts"] == 1
    assert outcomes(record) == []
    for job in ("two", "three"):
        attempts.begin("desk", "drift", f"of {job}", job)
        attempts.name(job, f"key of {job}")
        leases.end(job, succeeded=True)
    assert outcomes(record) == [("of two", "running"), ("of three", "running")]
    attempts.finish("desk", "promoted", "the rollout after the review", "key of three")
    assert outcomes(record) == [("of two", "running"), ("of three", "promoted")], "only the one that it goes on with"


def test_who_has_lost_its_lease_closes_nothing(record, clock):
    attempts, claims = Attempts(record), Claims(record)
    attempts.begin("desk", "drift", "k", "one")
    claims.take("key", "one")
    clock.sleep(LEASE_S + 1)
    assert claims.take("key", "two")[0] == "mine"
    with pytest.raises(Lost):
        attempts.finish("desk", "promoted", "one")
    assert outcomes(record) == []


def test_what_nobody_works_on_is_abandoned_and_what_somebody_does_is_not(record, clock):
    attempts = Attempts(record)
    attempts.begin("desk", "drift", "old")
    attempts.begin("desk", "drift", "alive", "one")
    attempts.begin("desk", "schedule", "other", "two")
    attempts.abandon("desk", "drift")
    assert outcomes(record) == [("alive", "running"), ("other", "running")]


def test_a_task_that_is_tried_again_does_not_see_its_own_first_try(record):
    attempts = Attempts(record)
    attempts.begin("desk", "drift", "mine", "one")
    attempts.begin("desk", "drift", "other", "two")
    assert [one.trigger_key for one in attempts.all("desk", but="one")] == ["other"]
    attempts.finish("desk", "refused", "one")
    assert [one.trigger_key for one in attempts.all("desk", but="one")] == ["mine", "other"]


@pytest.mark.parametrize(
    ("phase", "outcome", "age", "goes"),
    [
        ("idle", None, 0.0, True),
        ("idle", "promoted", 0.0, True),
        ("idle", "running", 60.0, False),
        ("idle", "running", 8 * DAY_SECONDS, True),
        ("watch", None, 0.0, False),
    ],
)
def test_nothing_is_deleted_while_a_rollout_or_a_retraining_needs_it(phase, outcome, age, goes):
    now = 100 * DAY_SECONDS
    attempts = [Attempt(now - age, "drift", "key", outcome)] if outcome else []
    found = oldest_deletable(State(endpoint="a", phase=phase), attempts, days=30.0, now=now)
    assert found == (70 * DAY_SECONDS if goes else None)
