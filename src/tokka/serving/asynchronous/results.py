"""What became of each job: one row per id, committed before its message is acknowledged.

    results = Results(settings.home / "jobs.db")
    results.accept(job.id, digest); results.complete(job.id, digest, answer); results.find(job.id)

The first answer that is committed stays: a message that comes again changes nothing.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from tokka.sqlite_file import open_sqlite

Outcome = Literal["queued", "done", "failed"]

metadata = MetaData()
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(100), primary_key=True),
    # Of what was asked, so that an id is not used for two different things.
    Column("digest", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False, index=True),
)


@dataclass(frozen=True)
class Kept:
    """One row: `answer` is the endpoint's answer when done, {"error": …} when failed, empty while queued."""

    id: str
    digest: str
    state: Outcome
    tries: int
    answer: dict[str, Any]
    created: float
    updated: float


class Results:
    """A SQLite file that several processes use at once.

    Args:
        path: made when it is missing, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path, metadata, mode=0o600)

    def accept(self, name: str, digest: str) -> None:
        """Note a job that waits on the queue; one that is known already stays as it is."""
        with self._engine.begin() as connection:
            _add(connection, name, digest)

    def find(self, name: str) -> Kept | None:
        """What is known of a job."""
        with self._engine.begin() as connection:
            return _find(connection, name)

    def complete(self, name: str, digest: str, answer: Mapping[str, Any]) -> Kept:
        """Commit an answer, and return what is kept from now on: an earlier answer if there was one."""
        return self._settle(name, digest, "done", answer)

    def fail(self, name: str, digest: str, reason: str) -> Kept:
        """Commit that there will be no answer, and why; a later answer replaces it, it replaces none."""
        return self._settle(name, digest, "failed", {"error": reason})

    def count_try(self, name: str, digest: str) -> int:
        """Count one more try that came to nothing, and return how many there were."""
        with self._engine.begin() as connection:
            _add(connection, name, digest)
            connection.execute(update(jobs).where(jobs.c.id == name).values(tries=jobs.c.tries + 1))
            return int(connection.execute(select(jobs.c.tries).where(jobs.c.id == name)).scalar_one())

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._engine.begin() as connection:
            states = list(connection.execute(select(jobs.c.state)).scalars())
        return {state: states.count(state) for state in ("queued", "done", "failed")}

    def forget(self, before: float) -> int:
        """Delete what was settled before a moment (seconds since 1970), and return how many there were."""
        old = (jobs.c.updated < before) & (jobs.c.state != "queued")
        with self._engine.begin() as connection:
            return int(connection.execute(delete(jobs).where(old)).rowcount)

    def _settle(self, name: str, digest: str, state: Outcome, answer: Mapping[str, Any]) -> Kept:
        values = {"state": state, "answer": json.dumps(answer, allow_nan=False), "updated": time.time()}
        with self._engine.begin() as connection:
            _add(connection, name, digest)
            connection.execute(update(jobs).where((jobs.c.id == name) & (jobs.c.state != "done")).values(**values))
            kept = _find(connection, name)
        assert kept is not None
        return kept


def _add(connection: Connection, name: str, digest: str) -> None:
    now = time.time()
    row = {"id": name, "digest": digest, "state": "queued", "tries": 0, "answer": "{}", "created": now, "updated": now}
    connection.execute(insert(jobs).values(**row).on_conflict_do_nothing())


def _find(connection: Connection, name: str) -> Kept | None:
    row = connection.execute(select(jobs).where(jobs.c.id == name)).mappings().first()
    return Kept(**{**row, "answer": json.loads(row["answer"])}) if row else None
