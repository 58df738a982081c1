"""The ledger of retrainings: when each was started and why, and what came of it; the drift policy counts on it."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, false, insert, select, update

from tokka.deployment.record import leases as lease
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.state import Owner, State
from tokka.deployment.record.tables import attempts, leases
from tokka.files import JsonObject
from tokka.monitoring.drift.policy import Attempt
from tokka.notifications import Event, emit
from tokka.notifications.tables import events
from tokka.request_log.segments import DAY_SECONDS

RUNNING, FAILED = "running", "failed"
# An attempt that was never finished, by a crash, does not hold the log for ever.
LONGEST_RETRAINING_SECONDS = 7 * DAY_SECONDS


class Attempts:
    """The attempts in a record's database; one that is under way lives as long as its job's lease."""

    def __init__(self, record: RecordDatabase) -> None:
        self._record = record

    def begin(
        self, endpoint: str, cause: str, trigger_key: str, job: str = "", holder: Owner | None = None,
        reasons: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Write down that a retraining starts now, and tell people why; the same one of the same job is one."""
        named = {"endpoint": endpoint, "cause": cause, "trigger_key": trigger_key}
        what, details = f"A retraining has started, asked for by {cause}.", {"cause": cause, "job": job}
        started = _started(endpoint, job or str(time.time()), trigger_key, what, reasons, details)
        same = [attempts.c[name] == value for name, value in {**named, "job": job, "outcome": RUNNING}.items()]

        def work(connection: Connection) -> None:
            now = self._record.now(connection)
            if job:
                lease.grant(connection, job, now, holder)
            if not job or not connection.execute(select(attempts.c.id).where(*same)).first():
                connection.execute(insert(attempts).values(**named, time=now, outcome=RUNNING, job=job or None))
                emit(started, connection, now)

        self._record.transact(work)

    def why(self, endpoint: str, job: str) -> JsonObject:
        """Why the retraining of a job was started: cause, time (since 1970), reasons; empty when none was by it."""
        mine = (attempts.c.endpoint == endpoint) & (attempts.c.job == job) & (attempts.c.outcome == RUNNING)

        def work(connection: Connection) -> JsonObject:
            row = connection.execute(select(attempts).where(mine).order_by(attempts.c.id)).first() if job else None
            if row is None:
                return {}
            told = select(events.c.event).where(events.c.id == _started(endpoint, job, row.trigger_key).id)
            event = json.loads(connection.execute(told).scalar() or "{}")
            return {"cause": row.cause, "time": row.time, "reasons": event.get("why", [])}

        return self._record.transact(work)

    def name(self, job: str, run_key: str) -> None:
        """Write down the key of the run that makes a job's attempt."""
        mine = update(attempts).where(attempts.c.job == job, attempts.c.outcome == RUNNING)
        self._record.transact(lambda connection: connection.execute(mine.values(run_key=run_key)))

    def finish(self, endpoint: str, outcome: str, job: str = "", run_key: str = "") -> None:
        """Say how the retraining of a job ended, or that of a key, which waited for a person; without both, all.

        Lost when another job has taken over what this one held.
        """
        open_ones = update(attempts).where(attempts.c.endpoint == endpoint, attempts.c.outcome == RUNNING)
        # Whoever waits for a person has no job any more.
        waited = attempts.c.job.is_(None) & ((attempts.c.run_key == run_key) if run_key else false())
        mine = open_ones.where((attempts.c.job == job) | waited) if job or run_key else open_ones

        def work(connection: Connection) -> None:
            lease.require(connection, job)
            connection.execute(mine.values(outcome=outcome))

        self._record.transact(work)

    def abandon(self, endpoint: str, cause: str) -> None:
        """Give up what was started by a cause and nobody works on any more, so that it may be started again."""
        mine = (attempts.c.endpoint == endpoint) & (attempts.c.outcome == RUNNING) & (attempts.c.cause == cause)

        def work(connection: Connection) -> None:
            now, rows = self._record.now(connection), connection.execute(_with_leases().where(mine)).all()
            dead = [row.id for row in rows if not _is_alive(row, now)]
            connection.execute(update(attempts).where(attempts.c.id.in_(dead)).values(outcome=FAILED))

        self._record.transact(work)

    def all(self, endpoint: str, but: str = "") -> list[Attempt]:
        """Every retraining that came to something or is under way, but what the job `but` itself works on.

        One that failed (a crash, a full disk, a lost node) is left out: the same command must be able to go on with it.
        """
        query = _with_leases().where(attempts.c.endpoint == endpoint, attempts.c.outcome != FAILED)
        if but:  # a task that is tried again must not be held up by its own first try
            query = query.where((attempts.c.outcome != RUNNING) | attempts.c.job.is_(None) | (attempts.c.job != but))

        def work(connection: Connection) -> list[Attempt]:
            now, rows = self._record.now(connection), connection.execute(query.order_by(attempts.c.time)).all()
            alive = [row for row in rows if row.outcome != RUNNING or row.job is None or _is_alive(row, now)]
            return [Attempt(row.time, row.cause, row.trigger_key, row.outcome) for row in alive]

        return self._record.transact(work)


def _started(
    endpoint: str, job: str, trigger_key: str, what: str = "", why: Sequence[str] = (),
    details: Mapping[str, object] | None = None,
) -> Event:  # fmt: skip
    return Event("retraining_started", endpoint, f"{job}/{trigger_key}", what, why, details=details or {})


# SQLAlchemy types the rows of tables that are not mapped classes as Any.
def _is_alive(row: Row[Any], now: float) -> bool:
    return row.job is not None and lease.until(row) > now


def _with_leases() -> Select[Any]:
    there = leases.c.job == attempts.c.job
    return select(attempts, leases.c.until, leases.c.owner).join(leases, there, isouter=True)


def oldest_deletable(
    state: State, attempts: Iterable[Attempt], *, days: float, now: float
) -> float | None:  # fmt: skip
    """Segments whose newest record is before this moment may go (seconds since 1970); None: nothing may."""
    running = any(
        attempt.outcome == RUNNING and now - attempt.time < LONGEST_RETRAINING_SECONDS for attempt in attempts
    )
    return None if running or state.phase != "idle" else now - days * DAY_SECONDS
