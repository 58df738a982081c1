import sqlite3

import pytest
from sqlalchemy import text

from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import TokkaError
from tokka.notifications import Event, emit
from tokka.notifications.outbox import LEASE_S, LOOK_BACK_S, Outbox
from tokka.sections_serving import Receiver

TEAM, BUS = Receiver(name="team"), Receiver(name="bus", events=("promoted",))
WEEK = 7 * 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(record_url, clock) -> Outbox:
    return Outbox(record_url, clock)


def event(subject="v1", kind="refused") -> Event:
    return Event(kind, endpoint="demo", subject=subject, what="it was refused", why=["accuracy 0.4 < 0.6"])


def taken(outbox: Outbox, receiver: Receiver = TEAM, holder: str = "me"):
    outbox.route(receiver, WEEK)
    assert outbox.lease(receiver.name, holder)
    return outbox.take(receiver.name, holder)


def test_the_same_thing_is_written_once_whoever_tells_it(record_url):
    assert emit(event(), record_url)
    assert not emit(event(), record_url)
    assert emit(event("v2"), record_url)
    assert len(Outbox(record_url).rows()) == 2


def test_an_event_is_there_with_its_transaction_or_not_at_all(record_url):
    record = RecordDatabase(record_url)

    def breaks(connection):
        emit(event(), connection)
        raise ValueError

    with pytest.raises(ValueError):
        record.transact(breaks)
    assert Outbox(record_url).rows() == []
    record.transact(lambda connection: emit(event(), connection))
    assert [row.kind for row in Outbox(record_url).rows()] == ["refused"]


def test_a_record_of_an_earlier_version_gets_the_tables(record_url):
    record = RecordDatabase(record_url)
    record.transact(lambda connection: connection.execute(text("DROP TABLE notifications")))
    RecordDatabase(record_url).transact(lambda connection: emit(event(), connection))


def test_each_receiver_is_given_what_it_wants_once(outbox, record_url, clock):
    emit(event(), record_url, clock.now)
    emit(event(kind="promoted"), record_url, clock.now)
    for _ in range(2):
        outbox.route(TEAM, WEEK)
        outbox.route(BUS, WEEK)
    found = sorted((row.receiver, row.kind, row.state) for row in outbox.rows())
    assert found == [
        ("bus", "promoted", "waiting"), ("bus", "refused", "unwanted"),
        ("team", "promoted", "waiting"), ("team", "refused", "waiting"),
    ]  # fmt: skip


def test_a_new_receiver_is_not_told_of_old_days_and_a_known_one_is(outbox, record_url, clock):
    emit(event("old"), record_url, clock.now - LOOK_BACK_S - 1)
    emit(event("new"), record_url, clock.now - LOOK_BACK_S + 1)
    outbox.route(TEAM, WEEK)
    assert [row.receiver for row in outbox.rows()] == ["team", ""]
    emit(event("while nobody sent"), record_url, clock.now + 10)
    clock.now += 2 * 86_400
    assert outbox.is_due([TEAM], WEEK)
    outbox.route(TEAM, WEEK)
    assert sum(row.receiver == "team" for row in outbox.rows()) == 2


def test_one_sender_at_a_time_and_its_successor_sends_again_what_it_had_begun(outbox, record_url, clock):
    emit(event(), record_url, clock.now)
    first = taken(outbox, holder="first")
    assert first is not None and first.tries == 1
    assert not outbox.is_due([TEAM], WEEK)
    assert not outbox.lease("team", "second")
    assert outbox.take("team", "second") is None
    clock.now += LEASE_S
    assert outbox.is_due([TEAM], WEEK)
    assert outbox.lease("team", "second")
    again = outbox.take("team", "second")
    assert again is not None and (again.id, again.tries) == (first.id, 2)
    assert outbox.take("team", "first") is None
    outbox.sent(again)
    # The first one wakes up too late to undo that.
    outbox.failed(first, "timed out", 1.0)
    assert [row.state for row in outbox.rows()] == ["sent"]


def test_who_is_away_is_not_asked_for_each_message_and_all_goes_when_it_is_back(outbox, record_url, clock):
    for number in range(3):
        emit(event(f"v{number}"), record_url, clock.now + number)
    one = taken(outbox)
    outbox.failed(one, "away", 60)
    outbox.release("team", "me")
    assert not outbox.is_due([TEAM], WEEK)
    assert outbox.lease("team", "me")
    assert outbox.take("team", "me") is None
    assert "3 notifications" not in str(outbox.problems()) and "away" in str(outbox.problems())
    clock.now += 60
    order = []
    while one := outbox.take("team", "me"):
        order.append(one.tries)
        outbox.sent(one)
    assert sorted(order) == [1, 1, 2]
    assert outbox.problems() == []


def test_what_waits_too_long_is_given_up_and_shown(outbox, record_url, clock):
    emit(event(), record_url, clock.now)
    outbox.failed(taken(outbox), "away", 60)
    clock.now += 7200
    assert outbox.give_up(3600) == [("team", "away")]
    assert outbox.problems() == ["1 notifications for team given up, the oldest since 2.0 h: away"]
    assert outbox.give_up(3600) == []


def test_a_database_that_is_away_is_an_error_in_one_line(tmp_path):
    path = tmp_path / "record.db"
    path.write_text("no database at all, but long enough to be read as a broken one" * 20)
    with pytest.raises(TokkaError, match="the outbox of notifications does not answer"):
        emit(event(), f"sqlite:///{path}")
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM notifications")
