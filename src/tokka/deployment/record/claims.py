"""Claims: of all jobs that want the same key at once one works on it, and the others share what it makes.

The key is a run's idempotency key; or the name of a role that one process has at a time, such as the reconciler's.
"""

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from sqlalchemy import Connection, select, update

from tokka import database
from tokka.deployment.record import leases as lease
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.state import Owner
from tokka.deployment.record.tables import claims, leases
from tokka.files import JsonObject

HELD, MADE = "held", "made"
Answer = Literal["mine", "made", "wait"]


class Claim(NamedTuple):
    """Who works on a key, until when it is known to live (seconds since 1970), and what came of it once it is made.

    `written` is the end of the lease as it stands in its row.
    """

    key: str
    job: str
    state: str
    lease_until: float
    result: JsonObject
    updated: float = 0.0
    written: float | None = None


def claim(row: Claim | None, now: float, job: str) -> Answer:
    """What a job that asks for a key is told: it may begin, it is done already, or another one works on it."""
    if row is not None and row.state == MADE:
        return "made"
    return "mine" if row is None or row.job == job or row.lease_until <= now else "wait"


class Claims:
    """The claims in a record's database; a claim is taken by compare-and-set, after `claim` has decided."""

    def __init__(self, record: RecordDatabase) -> None:
        self._record = record

    def find(self, key: str) -> Claim | None:
        """The claim on a key, if there is one."""
        return self._find(key)[0]

    def lives(self, key: str) -> bool:
        """Whether somebody holds a key now, and gives signs of life."""
        row, now = self._find(key)
        return row is not None and row.state == HELD and row.lease_until > now

    def _find(self, key: str) -> tuple[Claim | None, float]:
        query = select(claims, leases.c.until, leases.c.owner).join(leases, leases.c.job == claims.c.job, isouter=True)

        def work(connection: Connection) -> tuple[Claim | None, float]:
            row, now = connection.execute(query.where(claims.c.key == key)).first(), self._record.now(connection)
            if row is None:
                return None, now
            result = dict(json.loads(row.result))
            return Claim(key, row.job, row.state, lease.until(row), result, row.updated, row.until), now

        return self._record.transact(work)

    def take(
        self, key: str, job: str, holder: Owner | None = None, seconds: float = lease.LEASE_S
    ) -> tuple[Answer, JsonObject]:
        """Take a key for a job, or say why not; with the result when it is made.

        `holder` is the process whose end gives it free, `seconds` how long the lease lasts without a renewal.
        """
        while True:
            row, now = self._find(key)
            answer = claim(row, now, job)
            if answer != "mine" or self._swap(key, row, job, now, holder, seconds):
                return answer, row.result if row else {}

    def conclude(self, key: str, job: str, result: Mapping[str, object]) -> None:
        """Keep what came of a key, for whoever asks for it from now on; of two jobs the first one's result stays.

        Lost when another job has taken over what this one held.
        """
        values: dict[str, object] = {"job": job, "state": MADE, "result": _json(result)}
        same = claims.c.key == key

        def work(connection: Connection) -> None:
            lease.require(connection, job)
            values["updated"] = self._record.now(connection)
            made = update(claims).where(same, (claims.c.state == HELD) | (claims.c.job == job))
            if not connection.execute(made.values(**values)).rowcount:
                database.insert_new(connection, claims, {"key": key, **values})

        self._record.transact(work)

    def result(self, key: str) -> JsonObject | None:
        """What came of a key, once it is made."""
        found = self.find(key)
        return found.result if found and found.state == MADE else None

    def _swap(self, key: str, row: Claim | None, job: str, now: float, holder: Owner | None, seconds: float) -> bool:
        values = {"job": job, "state": HELD, "result": "{}", "updated": now}

        def work(connection: Connection) -> bool:
            # Whoever held it may have renewed its lease since it was read.
            if row is not None and row.job != job and not lease.take_from(connection, row.job, row.written):
                return False
            if row is None:
                done = database.insert_new(connection, claims, {"key": key, **values})
            else:
                same = (claims.c.key == key) & (claims.c.job == row.job) & (claims.c.updated == row.updated)
                mine = update(claims).where(same, claims.c.state == HELD).values(**values)
                done = connection.execute(mine).rowcount == 1
                if not done:
                    connection.rollback()
            if done:
                lease.grant(connection, job, now, holder, seconds)
            return done

        return self._record.transact(work)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
