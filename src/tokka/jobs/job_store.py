"""The state of each job: one row per id, committed before its message is acknowledged.

    store = JobStore(settings.jobs_url, "helpdesk")
    store.claim(job.id, digest); store.accept(job.id, digest)            # by the HTTP API
    store.start(job.id, digest); store.complete(job.id, digest, answer)  # by the consumer
    store.find(job.id)

An id belongs to the first content that comes under it, in whatever process. The first answer that is committed stays.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from tokka.jobs.tables import NOBODY, Counter, Event, increment, insert, jobs, open_jobs, read_counters

# claimed: a request has taken the id, and its message is not confirmed yet.
State = Literal["claimed", "queued", "done", "failed"]


class IdTaken(Exception):
    """The id belongs to a job with another content."""


@dataclass(frozen=True)
class StoredJob:
    """One row: `answer` is the endpoint's answer when done, {"error": …} when failed, empty before."""

    id: str
    digest: str
    state: State
    tries: int
    starts: int
    answer: dict[str, Any]
    created: float
    updated: float


class JobStore:
    """The jobs of one endpoint, in a database that several processes use at once.

    Methods that take a digest raise IdTaken when the id belongs to a job with another one, and make a new row when
    there is none.

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

    def claim(self, name: str, digest: str) -> StoredJob:
        """Take an id for a request, or find the job under it."""
        with self._locked(name, digest) as (_, job):
            return job

    def accept(self, name: str, digest: str) -> None:
        """Note that a claimed job waits on the queue; one that went on already stays as it is."""
        with self._locked(name, digest) as (connection, job):
            self._enqueue(connection, job)

    def start(self, name: str, digest: str) -> StoredJob:
        """Note that a consumer took up the job's message, and return the job with this start counted."""
        with self._locked(name, digest) as (connection, job):
            if job.state == "done":
                return job
            job = self._enqueue(connection, job)
            return self._change(connection, job, starts=job.starts + 1)

    def forget_starts(self, name: str) -> None:
        """Count no start of a job that goes back to the queue because nothing serves."""
        with self._engine.begin() as connection:
            connection.execute(update(jobs).where(self._is(name)).values(starts=jobs.c.tries))

    def find(self, name: str) -> StoredJob | None:
        """A job by its id."""
        with self._engine.begin() as connection:
            return self._find(connection, name)

    def complete(self, name: str, digest: str, answer: Mapping[str, Any]) -> StoredJob:
        """Commit an answer, unless there is one already, and return what is stored now."""
        with self._locked(name, digest) as (connection, job):
            if job.state == "done":
                return job
            seconds = max(0.0, time.time() - job.created)
            increment(connection, self._endpoint, "done", version=version_of(answer), seconds=seconds)
            return self._settle(connection, job, "done", answer)

    def fail(self, name: str, digest: str, reason: str, *, given_up: bool = False) -> StoredJob:
        """Commit that there is no answer, unless there is one already; a later answer replaces the failure.

        Args:
            given_up: the job was tried often enough, and nothing said that it is wrong.
        """
        with self._locked(name, digest) as (connection, job):
            return self._fail(connection, job, "given_up" if given_up else "failed", reason)

    def count_failure(self, name: str, digest: str, reason: str, *, limit: int) -> StoredJob:
        """Count a failed try; the last one fails the job in the same transaction, and none is counted after it."""
        with self._locked(name, digest) as (connection, job):
            if job.state == "done" or job.tries >= limit:
                return job
            job = self._change(connection, job, tries=job.tries + 1)
            if job.tries < limit:
                return job
            return self._fail(connection, job, "given_up", f"given up after {job.tries} tries: {reason}")

    def expire(self, before: float, reason: str) -> int:
        """Fail the jobs that wait since before a moment (seconds since 1970), and return their number."""
        late = (jobs.c.endpoint == self._endpoint) & (jobs.c.state == "queued") & (jobs.c.created < before)
        values = {"state": "failed", "answer": json.dumps({"error": reason}), "updated": time.time()}
        with self._engine.begin() as connection:
            count = connection.execute(update(jobs).where(late).values(**values)).rowcount
            if count:
                increment(connection, self._endpoint, "given_up", count=count)
            return count

    def purge(self, before: float) -> int:
        """Delete what was settled, or claimed and never confirmed, before a moment, and return the number."""
        old = (jobs.c.endpoint == self._endpoint) & (jobs.c.updated < before) & (jobs.c.state != "queued")
        with self._engine.begin() as connection:
            return connection.execute(delete(jobs).where(old)).rowcount

    def waiting(self) -> int:
        """The number of jobs that were accepted and have no outcome."""
        queued = (jobs.c.endpoint == self._endpoint) & (jobs.c.state == "queued")
        with self._engine.begin() as connection:
            return connection.execute(select(func.count()).where(queued)).scalar_one()

    def counters(self) -> list[Counter]:
        """The counters of events since the database exists."""
        with self._engine.begin() as connection:
            return read_counters(connection, self._endpoint)

    @contextmanager
    def _locked(self, name: str, digest: str) -> Iterator[tuple[Connection, StoredJob]]:
        """A transaction on one job, which is made when it is new; others on the same job wait for its end."""
        now = time.time()
        new = {"state": "claimed", "tries": 0, "starts": 0, "answer": "{}", "created": now, "updated": now}
        with self._engine.begin() as connection:
            # The write comes first: SQLite may refuse a transaction that read before it writes.
            row = insert(connection, jobs).values(endpoint=self._endpoint, id=name, digest=digest, **new)
            connection.execute(row.on_conflict_do_nothing())
            job = self._find(connection, name, lock=True)
            if job is None or job.digest != digest:
                raise IdTaken(name)
            yield connection, job

    def _enqueue(self, connection: Connection, job: StoredJob) -> StoredJob:
        if job.state != "claimed":
            return job
        increment(connection, self._endpoint, "accepted")
        return self._change(connection, job, state="queued")

    def _fail(self, connection: Connection, job: StoredJob, event: Event, reason: str) -> StoredJob:
        if job.state == "done":
            return job
        if job.state != "failed":
            increment(connection, self._endpoint, event)
        return self._settle(connection, job, "failed", {"error": reason})

    def _settle(self, connection: Connection, job: StoredJob, state: State, answer: Mapping[str, Any]) -> StoredJob:
        return self._change(
            connection, job, state=state, answer=dict(answer), updated=time.time(), starts=job.tries
        )  # fmt: skip

    def _change(self, connection: Connection, job: StoredJob, **values: Any) -> StoredJob:
        row = {**values, "answer": json.dumps(values["answer"], allow_nan=False)} if "answer" in values else values
        connection.execute(update(jobs).where(self._is(job.id)).values(**row))
        return replace(job, **values)

    def _find(self, connection: Connection, name: str, *, lock: bool = False) -> StoredJob | None:
        query = select(*[jobs.c[field] for field in StoredJob.__dataclass_fields__]).where(self._is(name))
        # SQLite ignores the lock: the write before this one locked the file.
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
        return StoredJob(**{**row, "answer": json.loads(row["answer"])}) if row else None

    def _is(self, name: str) -> ColumnElement[bool]:
        return (jobs.c.endpoint == self._endpoint) & (jobs.c.id == name)


def version_of(answer: Mapping[str, Any]) -> str:
    """The version that gave an answer of any shape."""
    rows = answer.get("predictions") or [answer]
    return str(rows[0].get("model_version") or NOBODY)
