"""What a pipeline wants to be rolled out by somebody else (the reconciler of a cluster), and what that one sees serve.

Who reconciles is a claim like any other, on the key RECONCILER; its lease says whether one is alive.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, select, update

from tokka import database
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.leases import require
from tokka.deployment.record.tables import endpoints, observations, wanted
from tokka.deployment.record.target import Observed
from tokka.files import JsonObject

RECONCILER = "reconciler"


class Wish(NamedTuple):
    """A version and the plan of its rollout; when it was asked for and taken up (seconds since 1970; 0: not yet).

    `generation` is that of the endpoint when it was asked: what is decided about it has a later one.
    """

    endpoint: str
    version: str
    job: str
    asked: float
    taken: float
    plan: JsonObject
    generation: int | None = None


class Wishes:
    """The wishes in a record's database, one per endpoint: a newer one takes the place of an older one."""

    def __init__(self, record: RecordDatabase) -> None:
        self._record = record

    def ask(self, endpoint: str, version: str, job: str, plan: Mapping[str, object]) -> Wish:
        """Write down what is wanted from now on; Lost when another job has taken over what this one held."""
        plan_text = json.dumps(dict(plan), allow_nan=False, ensure_ascii=False)

        def work(connection: Connection) -> Wish:
            require(connection, job)
            generation = connection.execute(select(endpoints.c.generation).where(endpoints.c.endpoint == endpoint))
            asked = self._record.now(connection)
            wish = Wish(endpoint, version, job, asked, 0.0, dict(plan), generation.scalar() or 0)
            values = {**wish._asdict(), "plan": plan_text}
            row = database.insert(connection, wanted).values(**values)
            connection.execute(row.on_conflict_do_update(index_elements=["endpoint"], set_=values))
            return wish

        return self._record.transact(work)

    def find(self, endpoint: str) -> Wish | None:
        """What is wanted of an endpoint."""
        query = select(wanted).where(wanted.c.endpoint == endpoint)
        row = self._record.transact(lambda connection: connection.execute(query).first())
        return Wish(**{**row._asdict(), "plan": json.loads(row.plan)}) if row else None

    def endpoints(self) -> list[str]:
        """The endpoints of which something is wanted, or was seen by the reconciler before."""
        query = select(wanted.c.endpoint).union(select(observations.c.endpoint))
        return sorted(self._record.transact(lambda connection: connection.execute(query).scalars().all()))

    def take(self, wish: Wish) -> bool:
        """Take a wish up, as the reconciler; False when it was withdrawn or replaced."""
        taken = update(wanted).where(_same(wish))

        def work(connection: Connection) -> int:
            return connection.execute(taken.values(taken=self._record.now(connection))).rowcount

        return self._record.transact(work) == 1

    def withdraw(self, wish: Wish) -> bool:
        """Want it no more; False when it was taken up since `wish` was read, or replaced."""
        gone = delete(wanted).where(_same(wish), wanted.c.taken == wish.taken)
        return self._record.transact(lambda connection: connection.execute(gone).rowcount) == 1

    def reconciler_lives(self) -> bool:
        """Whether a reconciler holds its lease now."""
        return Claims(self._record).lives(RECONCILER)

    def show(self, endpoint: str, observed: Observed) -> None:
        """Write down what serves, as the reconciler."""

        def work(connection: Connection) -> None:
            values = {"updated": self._record.now(connection), "observed": observed.model_dump_json()}
            row = database.insert(connection, observations).values(endpoint=endpoint, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["endpoint"], set_=values))

        self._record.transact(work)

    def observed(self, endpoint: str, newest_s: float) -> Observed | None:
        """What serves, unless it was seen more than `newest_s` seconds ago."""
        query = select(observations).where(observations.c.endpoint == endpoint)

        def work(connection: Connection) -> Observed | None:
            row = connection.execute(query).first()
            fresh = row is not None and self._record.now(connection) - row.updated <= newest_s
            return Observed.model_validate_json(row.observed) if row is not None and fresh else None

        return self._record.transact(work)


def _same(wish: Wish) -> ColumnElement[bool]:
    same = (wanted.c.endpoint == wish.endpoint) & (wanted.c.version == wish.version)
    return same & (wanted.c.asked == wish.asked)
