"""The state of each job: one row per id, committed before its message is acknowledged.

An id belongs to the first content that comes under it, in whatever process. The first answer that is committed stays.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from tokka.gateway.client import JsonObject
from tokka.jobs.tables import NOBODY, Counter, Event, State, StoredJob, increment, insert, open_jobs


def nobody(job: str, reason: str) -> None:
    """Tell nobody that a job was given up."""


class IdTaken(Exception):
    """The id belongs to a job with another content."""


class JobStore:
    """The jobs of one endpoint, in a database (SQLite or PostgreSQL) that several processes use at once.

    Methods that take a digest raise IdTaken when the id belongs to a job with another one, and make a new row when
    there is none. It raises as `open_jobs` does.
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
        with self._locked(name, digest) as (session, job):
            self._enqueue(session, job)

    def start(self, name: str, digest: str) -> StoredJob:
        """Note that a consumer took up the job's message, and return the job with this start counted."""
        with self._locked(name, digest) as (session, job):
            if job.state != "done":
                self._enqueue(session, job)
                job.starts += 1
            return job

    def forget_starts(self, name: str) -> None:
        """Count no start of a job that goes back to the queue because nothing serves."""
        with self._transaction() as session:
            own = (StoredJob.endpoint == self._endpoint) & (StoredJob.id == name)
            session.execute(update(StoredJob).where(own).values(starts=StoredJob.tries))

    def find(self, name: str) -> StoredJob | None:
        """A job by its id."""
        with self._transaction() as session:
            return session.get(StoredJob, (self._endpoint, name))

    def complete(self, name: str, digest: str, answer: JsonObject) -> StoredJob:
        """Commit an answer, unless there is one already, and return what is stored now."""
        with self._locked(name, digest) as (session, job):
            if job.state != "done":
                seconds = max(0.0, time.time() - job.created)
                increment(session, self._endpoint, "done", version=version_of(answer), seconds=seconds)
                _settle(job, "done", answer)
            return job

    def fail(self, name: str, digest: str, reason: str, *, given_up: bool = False) -> StoredJob:
        """Commit that there is no answer, unless there is one already; a later answer replaces the failure."""
        with self._locked(name, digest) as (session, job):
            self._fail(session, job, "given_up" if given_up else "failed", reason)
            return job

    def count_failure(self, name: str, digest: str, reason: str, *, limit: int) -> StoredJob:
        """Count a failed try; the last one fails the job in the same transaction, and none is counted after it."""
        with self._locked(name, digest) as (session, job):
            if job.state != "done" and job.tries < limit:
                job.tries += 1
                if job.tries == limit:
                    self._fail(session, job, "given_up", f"given up after {job.tries} tries: {reason}")
            return job

    def expire(self, before: float, reason: str, tell: Callable[[str, str], None] = nobody) -> int:
        """Fail the jobs that wait since before a moment (seconds since 1970), and return their number.

        `tell` is called before, with the id of one of them and the reason: it is not forgotten by a crash in between.
        """
        old = self._queued(), StoredJob.created < before
        with self._transaction() as session:
            first = session.scalar(select(StoredJob.id).where(*old).limit(1))
        if first is None:
            return 0
        tell(first, reason)
        late = update(StoredJob).where(*old).returning(StoredJob.id)
        with self._transaction() as session:
            count = len(
                session.scalars(late.values(state="failed", answer={"error": reason}, updated=time.time())).all()
            )
            if count:
                increment(session, self._endpoint, "given_up", count=count)
            return count

    def purge(self, before: float) -> int:
        """Delete what was settled, or claimed and never confirmed, before a moment, and return the number."""
        old = (StoredJob.endpoint == self._endpoint) & (StoredJob.updated < before) & (StoredJob.state != "queued")
        with self._transaction() as session:
            return len(session.scalars(delete(StoredJob).where(old).returning(StoredJob.id)).all())

    def waiting(self) -> int:
        """The number of jobs that were accepted and have no outcome."""
        with self._transaction() as session:
            return session.scalar(select(func.count()).where(self._queued())) or 0

    def oldest(self) -> float:
        """Seconds since the oldest of those was accepted; 0 when none waits."""
        with self._transaction() as session:
            since = session.scalar(select(func.min(StoredJob.created)).where(self._queued()))
            return max(0.0, time.time() - since) if since else 0.0

    def counters(self) -> Sequence[Counter]:
        """The counters of events since the database exists."""
        with self._transaction() as session:
            return session.scalars(select(Counter).where(Counter.endpoint == self._endpoint)).all()

    def _queued(self) -> ColumnElement[bool]:
        return (StoredJob.endpoint == self._endpoint) & (StoredJob.state == "queued")

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _locked(self, name: str, digest: str) -> Iterator[tuple[Session, StoredJob]]:
        """A transaction on one job, which is made when it is new; others on the same job wait for its end."""
        now = time.time()
        new = {"state": "claimed", "tries": 0, "starts": 0, "answer": {}, "created": now, "updated": now}
        with self._transaction() as session:
            # The write comes first: SQLite may refuse a transaction that read before it writes.
            row = insert(session, StoredJob).values(endpoint=self._endpoint, id=name, digest=digest, **new)
            session.execute(row.on_conflict_do_nothing())
            # SQLite ignores the lock: the write before this one locked the file.
            job = session.get_one(StoredJob, (self._endpoint, name), with_for_update=True)
            if job.digest != digest:
                raise IdTaken(name)
            yield session, job

    def _enqueue(self, session: Session, job: StoredJob) -> None:
        if job.state == "claimed":
            increment(session, self._endpoint, "accepted")
            job.state = "queued"

    def _fail(self, session: Session, job: StoredJob, event: Event, reason: str) -> None:
        if job.state == "done":
            return
        if job.state != "failed":
            increment(session, self._endpoint, event)
        _settle(job, "failed", {"error": reason})


def _settle(job: StoredJob, state: State, answer: JsonObject) -> None:
    job.state, job.answer, job.updated, job.starts = state, answer, time.time(), job.tries


def version_of(answer: JsonObject) -> str:
    """The version that gave an answer of any shape."""
    rows = answer.get("predictions") or [answer]
    return str(rows[0].get("model_version") or NOBODY)
