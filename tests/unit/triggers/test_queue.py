"""The queue of pushes, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tokka.deployment.record.connection import RecordDatabase
from tokka.triggers.decision import Push
from tokka.triggers.queue import REMEMBERED_S, Queue

A, B, C = ("a" * 40, "b" * 40, "c" * 40)


def push(before=A, after=B, ref="refs/heads/main"):
    return Push(repository="team/helpdesk", ref=ref, before=before, after=after)


class Clock:
    now = 1000.0

    def time(self):
        return self.now


@pytest.fixture
def queue(record_url):
    return Queue(RecordDatabase(record_url, clock=Clock()))


def test_a_push_that_is_told_twenty_times_at_once_is_one(queue, record_url):
    def put(number):
        return Queue(RecordDatabase(record_url)).put(push(), [f"delivery-{number % 5}"])

    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(put, range(20)))
    assert sorted(set(said)) == ["known", "queued"]
    assert said.count("queued") == 1
    assert len(queue.due()) == 1


def test_a_delivery_is_taken_once_also_long_after_its_push_was_decided_on(queue):
    assert queue.put(push(), ["github:1", "body:1"]) == "queued"
    queue.settle(queue.due()[0], "done", "trained")
    assert queue.put(push(), ["github:1"]) == "known"
    assert queue.put(push(), ["github:2", "body:1"]) == "known"
    assert queue.due() == []
    queue.record.clock.now += REMEMBERED_S + 1
    queue.sweep()
    assert queue.put(push(), ["github:1", "body:1"]) == "queued"


def test_the_same_move_made_again_is_decided_on_again(queue):
    queue.put(push())
    queue.settle(queue.due()[0], "failed", "no disk", head="seen")
    assert queue.put(push()) == "queued"
    assert [(entry.state, entry.tries, entry.reason) for entry in queue.due()] == [("queued", 0, "")]


def test_a_head_that_was_only_seen_keeps_what_was_decided_before(queue):
    queue.begin("team/helpdesk", {"refs/heads/main": A})
    queue.put(push())
    queue.settle(queue.due()[0], "failed", "no disk", head="seen")
    assert queue.heads("team/helpdesk") == {"refs/heads/main": (B, A)}
    queue.put(push(B, C))
    queue.settle(queue.due()[0], "done", "trained")
    queue.begin("team/helpdesk", {"refs/heads/main": A})
    assert queue.heads("team/helpdesk") == {"refs/heads/main": (C, C)}
    queue.forget("team/helpdesk", "refs/heads/main")
    assert queue.heads("team/helpdesk") == {}


def test_what_is_put_off_comes_back_in_time_and_in_order(queue):
    for after in (B, C):
        queue.put(push(after=after))
        queue.record.clock.now += 1
    first = queue.due()[0]
    queue.put_off(first, 60, "the host is away", failed=True)
    assert [entry.push.after for entry in queue.due()] == [C]
    queue.record.clock.now += 61
    assert [(entry.push.after, entry.tries) for entry in queue.due()] == [(B, 1), (C, 0)]


def test_an_end_is_told_once(queue):
    queue.put(push())
    assert queue.untold() == []
    queue.settle(queue.due()[0], "done", "trained", key="k", result={"verdict": "promoted"})
    (entry,) = queue.untold()
    assert entry.result == {"verdict": "promoted"}
    queue.mark_told(entry)
    assert queue.untold() == []
    assert queue.newest()[0].state == "done"
