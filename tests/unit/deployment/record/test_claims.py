"""Of two jobs with the same key one works and the other shares its result; whoever dies gives way."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.world import Clock
from tokka.deployment.record import leases as leases_module
from tokka.deployment.record import owner
from tokka.deployment.record.claims import Claim, Claims, claim
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.leases import LEASE_S, Leases, Lost, Terminated, kept
from tokka.deployment.record.state import Owner
from tokka.settings import Settings

RACERS = 3


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(record_url, clock):
    return RecordDatabase(record_url, clock)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "renew", "conclude", "wait", "die"]))))
def test_one_job_at_a_time_holds_a_key_and_what_is_made_stays(moves):
    """A model of the table, driven by the pure decision alone."""
    row, now, results = None, 0.0, []
    for job, move in moves:
        if move == "wait":
            now += LEASE_S / 2
        holds = row is not None and row.state == "held" and row.job == job
        if move == "ask":
            before = row
            answer = claim(row, now, job)
            if answer == "mine":
                assert before is None or before.job == job or before.lease_until <= now, "nobody alive is robbed"
                row = Claim("k", job, "held", now + LEASE_S, {})
            elif answer == "made":
                assert row.result == results[0]
            else:
                assert row.job != job and row.lease_until > now
        elif move == "renew" and holds:
            row = row._replace(lease_until=now + LEASE_S)
        elif move == "conclude" and holds:
            results.append({"by": job})
            row = row._replace(state="made", result=results[-1])
        elif move == "die" and holds:
            row = row._replace(lease_until=0.0)
    assert len(results) <= 1


def test_the_second_waits_for_the_first_and_shares_its_result(record):
    claims = Claims(record)
    assert claims.take("k", "one") == ("mine", {})
    assert claims.take("k", "one") == ("mine", {}), "who asks twice, as a task that is tried again, is told the same"
    assert claims.take("k", "two") == ("wait", {})
    assert claims.result("k") is None
    claims.conclude("k", "one", {"version": "3"})
    assert claims.take("k", "two") == ("made", {"version": "3"})
    assert claims.result("k") == {"version": "3"}


def test_of_two_results_the_first_stays_and_its_own_job_may_add_to_it(record):
    claims = Claims(record)
    claims.conclude("k", "one", {"version": "3"})
    claims.conclude("k", "two", {"version": "4"})
    claims.conclude("k", "one", {"version": "3", "report": "r"})
    assert claims.result("k") == {"version": "3", "report": "r"}


def test_a_lease_that_runs_out_gives_way_and_who_comes_back_is_told(record, clock):
    claims, leases = Claims(record), Leases(record)
    claims.take("k", "one")
    clock.sleep(LEASE_S - 1)
    leases.renew("one")
    clock.sleep(LEASE_S - 1)
    assert claims.take("k", "two") == ("wait", {})
    clock.sleep(2)
    assert claims.take("k", "two") == ("mine", {})
    with pytest.raises(Lost, match="another run has taken over"):
        leases.renew("one")
    leases.renew("two")
    leases.renew("a run that holds nothing")


def test_a_lease_that_is_renewed_while_another_one_reaches_for_it_stays(record, clock, monkeypatch):
    claims, leases, find = Claims(record), Leases(record), Claims._find
    claims.take("k", "one")
    clock.sleep(LEASE_S + 1)
    renewals = [lambda: leases.renew("one")]

    def find_and_renew(self, key):
        found = find(self, key)
        if renewals:
            renewals.pop()()
        return found

    monkeypatch.setattr(Claims, "_find", find_and_renew)
    assert claims.take("k", "two")[0] == "wait"
    leases.renew("one")


def test_who_has_lost_a_key_concludes_nothing(record, clock):
    claims = Claims(record)
    claims.take("k", "one")
    clock.sleep(LEASE_S + 1)
    claims.take("k", "two")
    with pytest.raises(Lost):
        claims.conclude("k", "one", {"version": "3"})
    assert claims.result("k") is None


def test_the_clocks_of_machines_do_not_matter(postgres, monkeypatch):
    claims = Claims(RecordDatabase(postgres.database()))
    claims.take("k", "one")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * LEASE_S)
    assert claims.take("k", "two") == ("wait", {}), "a machine whose clock is ahead robs nobody"
    monkeypatch.setattr(time, "time", lambda: now() - 2 * LEASE_S)
    Leases(RecordDatabase(claims._record.url)).renew("one")
    assert claims.take("k", "two") == ("wait", {}), "and one whose clock is behind is not robbed"


@pytest.fixture
def job(tmp_path, record_url):
    """A job whose process nobody else ends."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    (tmp_path / "home").mkdir()
    yield Settings.from_environment(
        {"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_RECORD_URL": record_url, "TOKKA_JOB": "one"}
    )
    signal.signal(signal.SIGTERM, before)


def work_forever():
    while True:
        threading.Event().wait(0.05)


def test_a_step_that_fails_gives_way_at_once_and_may_come_back(job):
    claims = Claims(RecordDatabase(job.record_url))
    claims.take("k", "one")
    with pytest.raises(ZeroDivisionError), kept(job):
        assert claims.take("k", "two")[0] == "wait"
        1 / 0  # noqa: B018
    with kept(job):
        assert claims.take("k", "two")[0] == "wait", "its second try goes on, where nobody has waited"
    with pytest.raises(Terminated), kept(job):
        os.kill(os.getpid(), signal.SIGTERM)
        work_forever()
    assert claims.take("k", "two")[0] == "mine"
    with pytest.raises(Lost), kept(job):
        pytest.fail("what another one works on is not begun")


def test_a_step_that_has_lost_its_lease_is_stopped(job, monkeypatch):
    monkeypatch.setattr(leases_module, "HEARTBEAT_S", 0.05)
    record = RecordDatabase(job.record_url)
    Claims(record).take("k", "one")
    with pytest.raises(Lost), kept(job):
        while Claims(record).take("k", "two")[0] != "mine":
            Leases(record).expire("one")
        work_forever()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_exit_task_gives_the_key_free_but_not_a_result(record, succeeded):
    claims, leases = Claims(record), Leases(record)
    claims.take("k", "one")
    claims.take("made", "one")
    claims.conclude("made", "one", {"version": "3"})
    assert leases.end("one", succeeded=succeeded)["claims"] == 1
    assert leases.end("one", succeeded=succeeded) == dict.fromkeys(("claims", "attempts", "wanted", "leases"), 0)
    assert claims.take("k", "two") == ("mine", {})
    assert claims.result("made") == {"version": "3"}


def test_a_process_of_this_machine_that_was_killed_gives_way_at_once(record):
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    holder = Owner(place=owner.place(), pid=child.pid, started=owner.process.identity(child.pid))
    claims = Claims(record)
    claims.take("k", "one", holder)
    assert claims.take("k", "two") == ("wait", {})
    child.kill()
    child.join()
    assert claims.take("k", "two") == ("mine", {})


def race(url, number, start, answers):
    start.wait()
    answers.put(Claims(RecordDatabase(url)).take("k", f"job {number}")[0])


def test_of_many_at_once_one_is_told_that_it_may_begin(record_url):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(RACERS), context.Queue()
    racers = [context.Process(target=race, args=(record_url, number, start, answers)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    found = sorted(answers.get() for _ in racers)
    for racer in racers:
        racer.join()
    assert found == ["mine", *["wait"] * (RACERS - 1)]
