"""The queue of pushes in the record's database: each move of a branch once, and what became of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, delete, select, update

from tokka import database
from tokka.deployment.record.connection import RecordDatabase
from tokka.files import JsonObject
from tokka.notifications import Event, emit
from tokka.triggers.decision import Push, State
from tokka.triggers.tables import heads, pushes, webhooks

# Webhooks are remembered for so long: no host delivers one again after that.
REMEMBERED_S = 90 * 86400.0
Known = Literal["decided", "seen", ""]
WAITING = ("queued", "started")
# What a queued push says while its run goes on.
UNDER_WAY = "its run goes on"


class Entry(NamedTuple):
    """A push in the queue: its number, state, reason in words, content key, result, failed tries."""

    number: int
    push: Push
    state: State
    reason: str
    key: str
    result: JsonObject
    tries: int
    received: float


class Head(NamedTuple):
    """The commit of a branch that was looked at last, and the last one whose content was decided on."""

    seen: str
    decided: str


class Queue:
    """The pushes, heads and webhooks of a record."""

    def __init__(self, record: RecordDatabase) -> None:
        self.record = record

    def put(self, push: Push, delivered: Sequence[str] = ()) -> str:
        """Queue a push: queued, or known when it waits already or one of its deliveries was taken before.

        `delivered`: ids of the webhook that told it, remembered in the same transaction. A move that was decided on
        long ago, and is made again, is queued again: its content key decides.
        """
        now = self.record.clock.time()
        fresh = {"state": "queued", "reason": "", "key": "", "result": "{}", "tries": 0, "due": 0.0, "told": 0}
        row = {**push.model_dump(), "identity": push.identity, "received": now, **fresh}
        settled = (pushes.c.identity == push.identity) & pushes.c.state.not_in(WAITING)

        def work(connection: Connection) -> str:
            for one in delivered:
                if not database.insert_new(connection, webhooks, {"id": one, "received": now}):
                    return "known"
            if database.insert_new(connection, pushes, row):
                return "queued"
            again = connection.execute(update(pushes).where(settled).values(received=now, **fresh))
            return "queued" if again.rowcount else "known"

        return self.record.transact(work)

    def due(self, state: State = "queued") -> list[Entry]:
        """The pushes in a state whose time has come, in the order in which they came."""
        ready = (pushes.c.state == state) & (pushes.c.due <= self.record.clock.time())
        return self._entries(select(pushes).where(ready).order_by(pushes.c.received, pushes.c.number))

    def waiting(self, repository: str) -> dict[str, set[str]]:
        """The commits that wait to be decided on, by ref, and those whose run goes on."""
        query = select(pushes.c.ref, pushes.c.after)
        query = query.where(pushes.c.repository == repository, pushes.c.state.in_(WAITING))
        found: dict[str, set[str]] = {}
        for row in self.record.transact(lambda connection: connection.execute(query).all()):
            found.setdefault(row.ref, set()).add(row.after)
        return found

    def untold(self) -> list[Entry]:
        """The pushes whose end is to be told to git and to the host."""
        wanted = pushes.c.state.not_in(WAITING) & (pushes.c.told == 0) & (pushes.c.due <= self.record.clock.time())
        return self._entries(select(pushes).where(wanted).order_by(pushes.c.number))

    def newest(self, limit: int = 20) -> list[Entry]:
        """The newest pushes, whatever became of them."""
        return self._entries(select(pushes).order_by(pushes.c.received.desc(), pushes.c.number.desc()).limit(limit))

    def under_way(self) -> Entry | None:
        """The push whose run on this machine goes on, for which all others wait; None when there is none."""
        named = (pushes.c.state == "queued") & pushes.c.reason.startswith(UNDER_WAY, autoescape=True)
        found = self._entries(select(pushes).where(named).limit(1))
        return found[0] if found else None

    def find(self, push: Push) -> Entry | None:
        """What became of a push."""
        found = self._entries(select(pushes).where(pushes.c.identity == push.identity))
        return found[0] if found else None

    def settle(
        self, entry: Entry, state: State, reason: str, *,
        key: str = "", result: Mapping[str, object] | None = None, head: Known = "decided",
        event: Event | None = None,
    ) -> None:  # fmt: skip
        """Write down what became of a push.

        `head`: whether its commit is the one whose content the branch was decided by, was only seen, or is neither;
        `event`: what people are told of it, in the same transaction.
        """
        values = {"state": state, "reason": reason, "key": key, "result": json.dumps(dict(result or {})), "due": 0.0}
        row = update(pushes).where(pushes.c.number == entry.number).values(**values)

        def work(connection: Connection) -> None:
            connection.execute(row)
            if event:
                emit(event, connection)
            if head:
                self._set_head(connection, entry.push, decided=head == "decided")

        self.record.transact(work)

    def put_off(self, entry: Entry, seconds: float, reason: str = "", *, failed: bool = False) -> None:
        """Try again in some seconds; `failed` counts as a try."""
        later = {"due": self.record.clock.time() + seconds, "tries": entry.tries + failed}
        values = {**later, **({"reason": reason} if reason else {})}
        row = update(pushes).where(pushes.c.number == entry.number).values(**values)
        self.record.transact(lambda connection: connection.execute(row))

    def mark_told(self, entry: Entry) -> None:
        """Git and the host know it."""
        row = update(pushes).where(pushes.c.number == entry.number).values(told=1)
        self.record.transact(lambda connection: connection.execute(row))

    def heads(self, repository: str) -> dict[str, Head]:
        """What is known of the branches, by ref."""
        query = select(heads).where(heads.c.repository == repository)
        rows = self.record.transact(lambda one: one.execute(query).all())
        return {row.ref: Head(row.commit, row.decided) for row in rows}

    def begin(self, repository: str, tips: Mapping[str, str]) -> None:
        """What branches hold from which nothing is known: it was there before anybody asked for a retraining."""

        def work(connection: Connection) -> None:
            now = self.record.clock.time()
            for ref, commit in tips.items():
                row = {"repository": repository, "ref": ref, "commit": commit, "decided": commit, "updated": now}
                database.insert_new(connection, heads, row)

        self.record.transact(work)

    def forget(self, repository: str, ref: str) -> None:
        """A branch that was deleted."""
        gone = delete(heads).where(heads.c.repository == repository, heads.c.ref == ref)
        self.record.transact(lambda connection: connection.execute(gone))

    def sweep(self) -> None:
        """Forget webhooks that no host will deliver again."""
        old = delete(webhooks).where(webhooks.c.received < self.record.clock.time() - REMEMBERED_S)
        self.record.transact(lambda connection: connection.execute(old))

    def _set_head(self, connection: Connection, push: Push, *, decided: bool) -> None:
        seen = {"commit": push.after, "updated": self.record.clock.time()}
        new = {**seen, "decided": push.after if decided else push.before}
        row = database.insert(connection, heads).values(repository=push.repository, ref=push.ref, **new)
        changed = new if decided else seen
        connection.execute(row.on_conflict_do_update(index_elements=["repository", "ref"], set_=changed))

    def _entries(self, query: Any) -> list[Entry]:
        return [_entry(row) for row in self.record.transact(lambda connection: connection.execute(query).all())]


# SQLAlchemy types the rows of tables that are not mapped classes as Any.
def _entry(row: Row[Any]) -> Entry:
    push = Push(repository=row.repository, ref=row.ref, before=row.before, after=row.after, source=row.source)
    return Entry(row.number, push, row.state, row.reason, row.key, json.loads(row.result), row.tries, row.received)
