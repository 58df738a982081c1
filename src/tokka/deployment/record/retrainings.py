"""The retrainings that were started, and how each ended: what the drift policy's limits are counted on."""

import time

from sqlalchemy import insert, select, update

from tokka.database import open_database
from tokka.deployment.record.tables import attempts, metadata
from tokka.monitoring.drift.policy import Attempt

RUNNING, FAILED = "running", "failed"
OUTCOMES = {"promoted": "promoted", "rolled_back": "rolled_back", "held": "held"}


class Attempts:
    """The table of attempts, in the database of the deployment record."""

    def __init__(self, url: str) -> None:
        self._engine = open_database(url, metadata)

    def begin(self, endpoint: str, cause: str, trigger_key: str) -> None:
        """Write down that a retraining starts now."""
        row = {"endpoint": endpoint, "time": time.time(), "cause": cause, "trigger_key": trigger_key}
        with self._engine.begin() as connection:
            connection.execute(insert(attempts).values(**row, outcome=RUNNING))

    def finish(self, endpoint: str, outcome: str, cause: str | None = None) -> None:
        """Say how whatever is under way ended; with `cause`, only what was started by it."""
        under_way = (attempts.c.endpoint == endpoint) & (attempts.c.outcome == RUNNING)
        if cause is not None:
            under_way &= attempts.c.cause == cause
        with self._engine.begin() as connection:
            connection.execute(update(attempts).where(under_way).values(outcome=outcome))

    def recent(self, endpoint: str) -> list[Attempt]:
        """Every attempt that came to something or is under way.

        One that failed (a crash, a full disk) is left out: the same command must be able to go on with it.
        """
        query = select(attempts).where(attempts.c.endpoint == endpoint, attempts.c.outcome != FAILED)
        with self._engine.begin() as connection:
            rows = connection.execute(query.order_by(attempts.c.time)).all()
        return [Attempt(row.time, row.cause, row.trigger_key, row.outcome) for row in rows]
