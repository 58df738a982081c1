"""Who leads: one of several replicas; its successor when it is gone; each endpoint looked after on its own."""

import threading

import httpx
import pytest

from tests.fakes.world import Clock
from tests.fixtures.waiting import PATIENCE_S, wait_for
from tokka.deployment.kserve import reconciler as module
from tokka.deployment.kserve.reconciler import Reconciler, serve_health
from tokka.deployment.record.leases import Lost
from tokka.deployment.record.record import Record
from tokka.deployment.record.wishes import Wishes
from tokka.errors import TokkaError


class Work:
    def __init__(self, fails=None):
        self.turns, self.fails, self.looked = 0, fails, 0.0

    def turn(self):
        self.turns += 1
        if self.fails:
            raise self.fails

    def tidy(self):
        self.tidied = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(record_url, clock):
    return Record(record_url, clock)


def replica(record, clock, name, work=None):
    return Reconciler(record, name, work or (lambda endpoint: Work()), clock)


def test_one_replica_leads_and_another_follows_when_its_lease_has_run_out(record, clock):
    first, second = replica(record, clock, "a"), replica(record, clock, "b")
    assert first.lead() and not second.lead()
    clock.now += module.LEASE_S - 1
    assert first.lead() and not second.lead()
    clock.now += module.LEASE_S + 1
    assert second.lead()
    with pytest.raises(Lost):
        first.lead()
    assert Wishes(record).reconciler_lives()


def test_a_leader_that_cannot_renew_its_lease_stops_before_another_could_lead(record, clock, monkeypatch):
    leader = replica(record, clock, "a")
    assert leader.lead()

    def fail(*_, **__):
        raise TokkaError("the record does not answer")

    monkeypatch.setattr(leader._claims, "take", fail)
    clock.now += module.LEASE_S - 1
    assert not leader.lead()
    clock.now += 2
    with pytest.raises(Lost):
        leader.lead()


def test_each_endpoint_is_looked_after_whatever_happens_to_another(record, clock, monkeypatch):
    monkeypatch.setattr(module, "TURN_S", 0.01)
    works = {"desk": Work(), "shop": Work(TokkaError("the cluster is away")), "till": Work(ZeroDivisionError())}
    for endpoint in works:
        Wishes(record).ask(endpoint, "1", "run", {})
    leader = replica(record, clock, "a", works.__getitem__)
    thread = threading.Thread(target=leader.run)
    thread.start()
    wait_for(lambda: all(work.turns > 2 for work in works.values()))
    leader.end()
    thread.join()
    assert not Wishes(record).reconciler_lives(), "the lease is free for the next one"


def test_the_lag_is_the_time_since_the_last_look_also_within_one_long_turn(record, clock, monkeypatch):
    monkeypatch.setattr(module, "TURN_S", 0.01)
    Wishes(record).ask("desk", "1", "run", {})
    began, ended, work = threading.Event(), threading.Event(), Work()
    work.turn = lambda: (began.set(), ended.wait())
    leader = replica(record, clock, "a", lambda endpoint: work)
    thread = threading.Thread(target=leader.run)
    thread.start()
    assert began.wait(PATIENCE_S)
    work.looked, clock.now = clock.now + 100.0, clock.now + 107.0
    assert leader.metrics.get_sample_value("tokka_reconciler_lag_seconds", {"endpoint": "desk"}) == 7.0
    leader.end()
    ended.set()
    thread.join()


def test_health_and_metrics(record, clock):
    leader = replica(record, clock, "a")
    server = serve_health(leader, 0, "127.0.0.1")

    def ask(path):
        return httpx.get(f"http://127.0.0.1:{server.server_port}{path}", trust_env=False)

    assert leader.lead() and ask("/healthz").status_code == 200
    assert "tokka_reconciler_leader 1.0" in ask("/metrics").text
    clock.now += module.STUCK_S + 1
    assert ask("/healthz").status_code == 503
    server.shutdown()
    server.server_close()
