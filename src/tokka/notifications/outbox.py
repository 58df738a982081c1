"""The outbox: events in the record's database, and what became of each at each receiver.

An event is written once, in the transaction of what happened where that is a write of the record. A delivery is marked
`sending` before it is sent and `sent` after: who dies in between leaves it to a successor, which sends it again under
the same id. So each is told at least once, and twice only when a sender was killed between the receiver's answer and
the mark.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    String,
    Text,
    case,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from tokka import database
from tokka.errors import TokkaError
from tokka.notifications.events import Event
from tokka.notifications.tables import deliveries, events, metadata, receivers
from tokka.sections_serving import Receiver

T = TypeVar("T")
# A receiver that is new is told of what happened so long before it was first seen: a run names it and then starts.
LOOK_BACK_S = 3600.0
# Longer than any one message takes; a sender that died is followed after it.
LEASE_S = 120.0
LONGEST_ERROR = 300


class Delivery(NamedTuple):
    """One event for one receiver, taken by a sender; `tries` counts this one, `time` is the event's."""

    id: str
    receiver: str
    tries: int
    time: float
    event: str


class Row(NamedTuple):
    """One delivery as people look at it."""

    time: float
    kind: str
    endpoint: str
    id: str
    receiver: str
    state: Literal["waiting", "sending", "sent", "given_up", "unwanted"]
    tries: int
    error: str
    event: str


def emit(event: Event, to: Connection | str, now: float | None = None) -> bool:
    """Put an event into the outbox; False when it was there already, whoever told it first.

    `to`: an open transaction of the record's database, with which it is written or not; or that database's URL, for a
    transaction of its own, which raises TokkaError when the database does not answer. `now`: seconds since 1970.
    """
    if isinstance(to, str):
        return Outbox(to).transact(lambda connection: emit(event, connection, now))
    row = {"id": event.id, "kind": event.kind, "endpoint": event.endpoint, "event": event.as_json()}
    return database.insert_new(to, events, {**row, "time": database.server_time(to) if now is None else now})


class Outbox:
    """The outbox in the record's database; TokkaError from every method when that does not answer.

    `clock`: seconds since 1970; by default PostgreSQL's own, since senders of several machines go by it.
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None, patience_s: float = 0.0) -> None:
        self._clock, self._patience_s = clock, patience_s
        self._engine = _asked(lambda: database.open_database(url, metadata, patience_s))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns from one transaction."""
        return _asked(lambda: database.transact(self._engine, work, self._patience_s))

    def route(self, receiver: Receiver, give_up_s: float) -> None:
        """Give a receiver a delivery of each event that it has none of, but of none that is too old to be tried."""
        kinds = list(receiver.events)
        wanted = case((events.c.kind.in_(kinds), "waiting"), else_="unwanted") if kinds else literal("waiting", String)

        def work(connection: Connection) -> None:
            now = self._now(connection)
            new = {"name": receiver.name, "since": now - LOOK_BACK_S, "holder": "", "until": 0.0}
            database.insert_new(connection, receivers, new)
            since = select(receivers.c.since).where(receivers.c.name == receiver.name).scalar_subquery()
            old = (events.c.time < since) | (events.c.time < now - give_up_s)
            columns = [column.name for column in deliveries.columns]
            made = select(
                events.c.id, literal(receiver.name, String), wanted, literal(0, Integer), literal(0.0, Float),
                literal(now, Float), literal("", Text),
            ).where(~old, ~_is_routed(receiver.name))  # fmt: skip
            rows = database.insert(connection, deliveries).from_select(columns, made)
            connection.execute(rows.on_conflict_do_nothing())

        self.transact(work)

    def lease(self, receiver: str, holder: str) -> bool:
        """Become the one who sends to a receiver, or stay so; False while another one does."""

        def work(connection: Connection) -> bool:
            now = self._now(connection)
            free = (receivers.c.holder == holder) | (receivers.c.until <= now)
            mine = update(receivers).where(receivers.c.name == receiver, free)
            return connection.execute(mine.values(holder=holder, until=now + LEASE_S)).rowcount == 1

        return self.transact(work)

    def release(self, receiver: str, holder: str) -> None:
        """Let another one send to a receiver."""
        mine = update(receivers).where(receivers.c.name == receiver, receivers.c.holder == holder).values(until=0.0)
        self.transact(lambda connection: connection.execute(mine))

    def take(self, receiver: str, holder: str) -> Delivery | None:
        """The next delivery that is due, marked `sending`; None when there is none, or another one sends now."""
        held = update(receivers).where(receivers.c.name == receiver, receivers.c.holder == holder)
        query = select(deliveries, events.c.time, events.c.event).join(events, events.c.id == deliveries.c.id)
        # What failed less often goes first: one message that is never taken holds no other up.
        query = query.order_by(deliveries.c.tries, events.c.time, events.c.id).limit(1)

        def work(connection: Connection) -> Delivery | None:
            now = self._now(connection)
            # The write comes first: SQLite may refuse a transaction that read before it writes.
            if not connection.execute(held.where(receivers.c.until > now).values(until=now + LEASE_S)).rowcount:
                return None
            row = connection.execute(query.where(deliveries.c.receiver == receiver, _is_due(now))).first()
            if row is None:
                return None
            values = {"state": "sending", "tries": row.tries + 1, "updated": now}
            connection.execute(update(deliveries).where(_same(row.id, receiver)).values(**values))
            return Delivery(row.id, receiver, row.tries + 1, row.time, row.event)

        return self.transact(work)

    def sent(self, one: Delivery) -> None:
        """The receiver has taken it: what waited because it was away waits no longer."""
        self._settle(one, "sent", "", 0.0)
        if one.tries > 1:
            waits = (deliveries.c.receiver == one.receiver) & (deliveries.c.state == "waiting")
            held_up = update(deliveries).where(waits, deliveries.c.error == "").values(due=0.0)
            self.transact(lambda connection: connection.execute(held_up))

    def failed(self, one: Delivery, error: str, pause_s: float) -> None:
        """The receiver has not; neither this nor anything else is tried there for so many seconds."""
        self._settle(one, "waiting", error[:LONGEST_ERROR], pause_s)

    def give_up(self, after_s: float) -> list[tuple[str, str]]:
        """Give up what waits for longer than this, in seconds: the receivers and errors, one for each."""

        def work(connection: Connection) -> list[tuple[str, str]]:
            now = self._now(connection)
            old = select(events.c.id).where(events.c.time < now - after_s)
            late = update(deliveries).where(deliveries.c.state == "waiting", deliveries.c.id.in_(old))
            made = late.values(state="given_up", updated=now).returning(deliveries.c.receiver, deliveries.c.error)
            return [(row.receiver, row.error) for row in connection.execute(made)]

        return self.transact(work)

    def is_due(self, named: Sequence[Receiver], give_up_s: float) -> bool:
        """Whether a sender would find something to do for these receivers now; not where another one sends."""

        def work(connection: Connection) -> bool:
            now = self._now(connection)
            busy = set(connection.scalars(select(receivers.c.name).where(receivers.c.until > now)))
            names = [one.name for one in named if one.name not in busy]
            waiting = exists().where(deliveries.c.receiver.in_(names), _is_due(now))
            if connection.execute(select(waiting)).scalar():
                return True
            known = {row.name: row.since for row in connection.execute(select(receivers))}
            new = [_is_new(name, max(known.get(name, now - LOOK_BACK_S), now - give_up_s)) for name in names]
            return any(connection.execute(select(one)).scalar() for one in new)

        return self.transact(work)

    def rows(self, limit: int = 100) -> list[Row]:
        """Deliveries with their events, newest first; an event that no receiver was given yet has an empty receiver."""
        joined = select(events, deliveries.c.receiver, deliveries.c.state, deliveries.c.tries, deliveries.c.error)
        query = joined.join(deliveries, deliveries.c.id == events.c.id, isouter=True)
        query = query.order_by(events.c.time.desc(), events.c.id, deliveries.c.receiver).limit(limit)
        return [
            Row(row.time, row.kind, row.endpoint, row.id, row.receiver or "", row.state or "waiting", row.tries or 0,
                row.error or "", row.event)
            for row in self.transact(lambda connection: connection.execute(query).all())
        ]  # fmt: skip

    def problems(self) -> list[str]:
        """What people have to know of deliveries that do not go well, one sentence for each receiver and state."""
        bad = (deliveries.c.state == "given_up") | ((deliveries.c.state == "waiting") & (deliveries.c.error != ""))
        kinds = deliveries.c.receiver, deliveries.c.state
        found = select(*kinds, func.count(), func.min(events.c.time), func.max(deliveries.c.error))
        query = found.join(events, events.c.id == deliveries.c.id).where(bad)
        query = query.group_by(*kinds).order_by(*kinds)

        def work(connection: Connection) -> list[str]:
            now = self._now(connection)
            return [_sentence(*row, now=now) for row in connection.execute(query)]

        return self.transact(work)

    def _now(self, connection: Connection) -> float:
        return self._clock() if self._clock else database.server_time(connection)

    def _settle(self, one: Delivery, state: str, error: str, pause_s: float) -> None:
        # Whoever was followed by another sender has nothing to say any more.
        mine = update(deliveries).where(_same(one.id, one.receiver), deliveries.c.state == "sending")
        waits = (deliveries.c.receiver == one.receiver) & (deliveries.c.state == "waiting")

        def work(connection: Connection) -> None:
            now = self._now(connection)
            connection.execute(mine.values(state=state, error=error, updated=now))
            if pause_s:
                later = update(deliveries).where(waits, deliveries.c.due < now + pause_s)
                connection.execute(later.values(due=now + pause_s))

        self.transact(work)


def _same(name: str, receiver: str) -> ColumnElement[bool]:
    return (deliveries.c.id == name) & (deliveries.c.receiver == receiver)


def _is_due(now: float) -> ColumnElement[bool]:
    """Of deliveries. One in `sending` is asked for by the holder of the lease alone: its sender has died."""
    return (deliveries.c.state == "sending") | ((deliveries.c.state == "waiting") & (deliveries.c.due <= now))


def _is_routed(receiver: str) -> ColumnElement[bool]:
    return exists().where(deliveries.c.id == events.c.id, deliveries.c.receiver == receiver)


def _is_new(receiver: str, since: float) -> ColumnElement[bool]:
    return exists().where(events.c.time >= since, ~_is_routed(receiver)).correlate(None)


def _sentence(receiver: str, state: str, count: int, oldest: float, error: str, *, now: float) -> str:
    said = "given up" if state == "given_up" else "wait"
    return f"{count} notifications for {receiver} {said}, the oldest since {(now - oldest) / 3600:.1f} h: {error}"


def _asked(work: Callable[[], T]) -> T:
    try:
        return work()
    except (DBAPIError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise TokkaError(f"the outbox of notifications does not answer: {reason}", "check TOKKA_RECORD_URL") from None
