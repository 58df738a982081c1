"""What became of each job: one row per id, committed before its message is acknowledged.

    results = Results(settings.jobs_url, "helpdesk")
    results.claim(job.id, digest); results.accept(job.id, digest)          # by whoever takes a request
    results.begin(job.id, digest); results.complete(job.id, digest, answer)     # by whoever takes its message
    results.find(job.id)

An id belongs to the first content that comes under it, in whatever process: everything else is `Taken`. The first
answer that is committed stays: a message that comes again changes nothing.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select, update

from tokka.jobs import tally
from tokka.jobs.tables import insert, jobs, open_jobs
from tokka.jobs.tally import Event, Tally

# claimed: a request has taken the id, and its message is not confirmed yet.
State = Literal["claimed", "queued", "done", "failed"]


class Taken(Exception):
    """The id belongs to a job with another content."""


@dataclass(frozen=True)
class Kept:
    """One row: `answer` is the endpoint's answer when done, {"error": …} when failed, empty before."""

    id: str
    digest: str
    state: State
    tries: int
    starts: int
    answer: dict[str, Any]
    created: float
    updated: float


class Results:
    """The jobs of one endpoint, in a database that several processes use at once.

    Args:
        url: of SQLite or PostgreSQL.
        endpoint: its name; the ids of another endpoint are other jobs.

    Raises:
        UsageError: the URL names no database that can be used.
        TokkaError: it does not answer.
    """

    def __init__(self, url: str, endpoint: str) -> None:
        self._engine = open_jobs(url)
        self._endpoint = endpoint

    def claim(self, name: str, digest: str) -> Kept:
        """Take an id for what a request asks, or find what became of it under that id.

        Raises:
            Taken: it is another job's.
        """
        with self._own(name, digest) as (_, kept):
            return kept

    def accept(self, name: str, digest: str) -> None:
        """Note that a claimed job waits on the queue; one that went on already stays as it is.

        Raises:
            Taken: the id is another job's.
        """
        with self._own(name, digest) as (connection, kept):
            self._enqueue(connection, kept)

    def begin(self, name: str, digest: str) -> Kept:
        """Note that a job's message has come, and return what is known of it, this start counted.

        Raises:
            Taken: the id is another job's.
        """
        with self._own(name, digest) as (connection, kept):
            if kept.state == "done":
                return kept
            kept = self._enqueue(connection, kept)
            self._change(connection, name, starts=kept.starts + 1)
            return replace(kept, starts=kept.starts + 1)

    def rest(self, name: str) -> None:
        """Count no start of a job that goes back to the queue through no fault of its own."""
        with self._engine.begin() as connection:
            self._change(connection, name, starts=jobs.c.tries)

    def find(self, name: str) -> Kept | None:
        """What is known of a job."""
        with self._engine.begin() as connection:
            return self._find(connection, name)

    def complete(self, name: str, digest: str, answer: Mapping[str, Any]) -> Kept:
        """Commit an answer, and return what is kept from now on: an earlier answer if there was one.

        Raises:
            Taken: the id is another job's.
        """
        with self._own(name, digest) as (connection, kept):
            if kept.state == "done":
                return kept
            seconds, version = time.time() - kept.created, version_of(answer)
            tally.add(connection, self._endpoint, "done", version=version, seconds=max(0.0, seconds))
            return self._settle(connection, kept, "done", answer)

    def fail(self, name: str, digest: str, reason: str, *, given_up: bool = False) -> Kept:
        """Commit that there will be no answer, and why; a later answer replaces it, it replaces none.

        Args:
            given_up: nobody said that the job is wrong, it was only tried often enough.

        Raises:
            Taken: the id is another job's.
        """
        with self._own(name, digest) as (connection, kept):
            if kept.state == "done":
                return kept
            return self._fail(connection, kept, "given_up" if given_up else "failed", reason)

    def count_try(self, name: str, digest: str, reason: str, *, limit: int) -> Kept:
        """Count one more try that came to nothing; the last one fails the job, in the same breath.

        Raises:
            Taken: the id is another job's.
        """
        with self._own(name, digest) as (connection, kept):
            if kept.state == "done":
                return kept
            kept = replace(kept, tries=kept.tries + 1)
            self._change(connection, name, tries=kept.tries)
            if kept.tries < limit:
                return kept
            return self._fail(connection, kept, "given_up", f"given up after {kept.tries} tries: {reason}")

    def give_up(self, before: float, reason: str) -> int:
        """Fail what has waited since before a moment (seconds since 1970), and return how many there were."""
        lost = (jobs.c.endpoint == self._endpoint) & (jobs.c.state == "queued") & (jobs.c.created < before)
        values = {"state": "failed", "answer": json.dumps({"error": reason}), "updated": time.time()}
        with self._engine.begin() as connection:
            count = int(connection.execute(update(jobs).where(lost).values(**values)).rowcount)
            if count:
                tally.add(connection, self._endpoint, "given_up", count=count)
            return count

    def forget(self, before: float) -> int:
        """Delete what was settled, or claimed for nothing, before a moment, and return how many there were."""
        old = (jobs.c.endpoint == self._endpoint) & (jobs.c.updated < before) & (jobs.c.state != "queued")
        with self._engine.begin() as connection:
            return int(connection.execute(delete(jobs).where(old)).rowcount)

    def waiting(self) -> int:
        """How many jobs were accepted and have no answer."""
        queued = (jobs.c.endpoint == self._endpoint) & (jobs.c.state == "queued")
        with self._engine.begin() as connection:
            return int(connection.execute(select(func.count()).where(queued)).scalar_one())

    def tallies(self) -> list[Tally]:
        """What was counted since the database is there."""
        with self._engine.begin() as connection:
            return tally.read(connection, self._endpoint)

    @contextmanager
    def _own(self, name: str, digest: str) -> Iterator[tuple[Connection, Kept]]:
        """A transaction on one job, which is made when it is new; whoever comes second waits for its end."""
        now = time.time()
        new = {"state": "claimed", "tries": 0, "starts": 0, "answer": "{}", "created": now, "updated": now}
        with self._engine.begin() as connection:
            # The write comes first: in SQLite a transaction that read before it writes may be refused.
            row = insert(connection, jobs).values(endpoint=self._endpoint, id=name, digest=digest, **new)
            connection.execute(row.on_conflict_do_nothing())
            kept = self._find(connection, name, lock=True)
            if kept is None or kept.digest != digest:
                raise Taken(name)
            yield connection, kept

    def _enqueue(self, connection: Connection, kept: Kept) -> Kept:
        if kept.state != "claimed":
            return kept
        tally.add(connection, self._endpoint, "accepted")
        self._change(connection, kept.id, state="queued")
        return replace(kept, state="queued")

    def _fail(self, connection: Connection, kept: Kept, event: Event, reason: str) -> Kept:
        if kept.state != "failed":
            tally.add(connection, self._endpoint, event)
        return self._settle(connection, kept, "failed", {"error": reason})

    def _settle(self, connection: Connection, kept: Kept, state: State, answer: Mapping[str, Any]) -> Kept:
        now = time.time()
        text = json.dumps(answer, allow_nan=False)
        self._change(connection, kept.id, state=state, answer=text, updated=now, starts=kept.tries)
        return replace(kept, state=state, answer=dict(answer), updated=now, starts=kept.tries)

    def _change(self, connection: Connection, name: str, **values: Any) -> None:
        connection.execute(update(jobs).where(self._is(name)).values(**values))

    def _find(self, connection: Connection, name: str, *, lock: bool = False) -> Kept | None:
        query = select(*[jobs.c[field] for field in Kept.__dataclass_fields__]).where(self._is(name))
        # SQLite has no rows to lock, and needs none: the write before this one locked the file.
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
        return Kept(**{**row, "answer": json.loads(row["answer"])}) if row else None

    def _is(self, name: str) -> Any:
        return (jobs.c.endpoint == self._endpoint) & (jobs.c.id == name)


def version_of(answer: Mapping[str, Any]) -> str:
    """The version that gave an answer of any shape."""
    rows = answer.get("predictions") or [answer]
    return str(rows[0].get("model_version") or tally.NOBODY)
