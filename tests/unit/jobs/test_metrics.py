"""What /metrics says about jobs: counted once each, by whichever consumer, and still there when they are forgotten."""

import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tokka.jobs.job_store import JobStore
from tokka.jobs.metrics import JobMetrics
from tokka.jobs.tables import BOUNDS, bucket

NAME = "helpdesk"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


def exposition(url):
    registry = CollectorRegistry()
    registry.register(JobMetrics(url, NAME))
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_jobs_are_counted_by_what_became_of_them(url):
    for number in range(6):
        JobStore(url, NAME).claim(f"{number}", "d")
        JobStore(url, NAME).accept(f"{number}", "d")
    results = JobStore(url, NAME)
    for _ in range(2):
        results.start("0", "d")
        results.complete("0", "d", {"label": "card", "model_version": "3"})
        results.complete("1", "d", {"predictions": [{"model_version": "4"}]})
        results.fail("2", "d", "no text_pair")
        results.fail("3", "d", "tried often", given_up=True)
    results.claim("nobody waits for this one", "d")
    found = exposition(url)
    assert 0 < float(found.pop("tokka_jobs_oldest_seconds")) < 120
    assert {name: float(value) for name, value in found.items() if name.startswith("tokka_jobs")} == {
        "tokka_jobs_database_up": 1.0,
        "tokka_jobs_waiting": 2.0,
        'tokka_jobs_total{event="accepted",version="none"}': 6.0,
        'tokka_jobs_total{event="done",version="3"}': 1.0,
        'tokka_jobs_total{event="done",version="4"}': 1.0,
        'tokka_jobs_total{event="failed",version="none"}': 1.0,
        'tokka_jobs_total{event="given_up",version="none"}': 1.0,
    }


def test_durations_are_a_histogram_by_version(url, monkeypatch):
    results = JobStore(url, NAME)
    now = time.time()
    for number, seconds in enumerate((0.01, 0.2, 0.2, 40.0, 200_000.0)):
        monkeypatch.setattr(time, "time", lambda: now)
        results.start(f"{number}", "d")
        monkeypatch.setattr(time, "time", lambda seconds=seconds: now + seconds)
        results.complete(f"{number}", "d", {"model_version": "3"})
    found = exposition(url)

    def at(bound):
        return float(found[f'tokka_job_duration_seconds_bucket{{le="{bound}",version="3"}}'])

    assert [at(bound) for bound in ("0.05", "0.1", "0.25", "30.0", "60.0", "86400.0", "+Inf")] == [1, 1, 3, 3, 4, 4, 5]
    assert float(found['tokka_job_duration_seconds_count{version="3"}']) == 5
    assert float(found['tokka_job_duration_seconds_sum{version="3"}']) == pytest.approx(200_040.41, abs=0.1)


def test_counters_never_fall(url):
    results = JobStore(url, NAME)
    results.start("a", "d")
    updated = results.complete("a", "d", {"model_version": "3"}).updated
    before = exposition(url)
    assert results.purge(updated + 1) == 1
    assert exposition(url) == before


def test_a_database_that_does_not_answer_is_said(tmp_path):
    (tmp_path / "jobs.db").mkdir()
    assert exposition(f"sqlite:///{tmp_path}/jobs.db") == {"tokka_jobs_database_up": "0.0"}


def test_buckets_hold_their_upper_bound():
    assert [bucket(seconds) for seconds in (0.0, 0.05, 0.0501, 86_400.0, 86_401.0, None)] == [
        BOUNDS[0], BOUNDS[0], BOUNDS[1], BOUNDS[-2], "+Inf", ""
    ]  # fmt: skip
