"""The tables of asynchronous jobs: one row per job, and counters of all jobs, also of those that were deleted.

A counter is written in the transaction that changes the job, so that each event counts once, in whatever process.
"""

import bisect
from typing import Literal

from sqlalchemy import JSON, Engine, Index, String
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tokka.database import open_database
from tokka.errors import TokkaError, UsageError
from tokka.gateway.client import JsonObject

VARIABLE = "TOKKA_JOBS_URL"
DIALECTS = ("sqlite", "postgresql")
# claimed: a request has taken the id, and its message is not confirmed yet.
State = Literal["claimed", "queued", "done", "failed"]
Event = Literal["accepted", "done", "failed", "given_up"]
BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "300.0", "1800.0", "3600.0",
          "21600.0", "86400.0", "+Inf")  # fmt: skip
NOBODY = "none"
_LIMITS = [float(bound) for bound in BOUNDS]


class Base(DeclarativeBase):
    """What the two tables have in common: the metadata with which they are created."""


class StoredJob(Base):
    """One job; `answer` is the endpoint's answer when done, {"error": …} when failed, empty before."""

    __tablename__ = "asynchronous_jobs"
    __table_args__ = (
        Index("asynchronous_jobs_by_age", "endpoint", "updated"),
        # Jobs that wait are counted often, and are few.
        Index("asynchronous_jobs_by_state", "endpoint", "state", "created"),
    )
    endpoint: Mapped[str] = mapped_column(String(255), primary_key=True)
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    # Of what is asked, so that an id is not used for two different things.
    digest: Mapped[str] = mapped_column(String(64))
    state: Mapped[State] = mapped_column(String(8))
    tries: Mapped[int]
    # How often a message was taken up: one that kills its consumer leaves no other trace.
    starts: Mapped[int]
    answer: Mapped[JsonObject] = mapped_column(JSON)
    created: Mapped[float]
    updated: Mapped[float]


class Counter(Base):
    """How often an event happened with answers of one version in one bucket of duration, and the sum of seconds.

    `bound` is the upper bound of the bucket, as Prometheus writes it; empty for an event without a duration.
    """

    __tablename__ = "asynchronous_counters"
    endpoint: Mapped[str] = mapped_column(String(255), primary_key=True)
    event: Mapped[str] = mapped_column(String(16), primary_key=True)
    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    bound: Mapped[str] = mapped_column(String(16), primary_key=True)
    count: Mapped[int]
    seconds: Mapped[float]


def open_jobs(url: str) -> Engine:
    """The database, with its tables; only its owner can read a SQLite file.

    Raises UsageError for a URL of no database that can be used, TokkaError when it does not answer.
    """
    try:
        engine = open_database(url, Base.metadata)
    except (ArgumentError, ModuleNotFoundError, ValueError) as error:
        # Without the URL: it may hold a password.
        raise UsageError(f"the jobs' URL cannot be used: {error}", f"mend {VARIABLE}") from None
    except (DBAPIError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise TokkaError(f"the jobs' database does not answer: {reason}", f"check what {VARIABLE} names") from None
    if engine.dialect.name not in DIALECTS:
        raise UsageError(f"jobs cannot be kept in {engine.dialect.name}", f"{VARIABLE}: SQLite or PostgreSQL")
    return engine


def insert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """An insert of the database's own dialect, which has `on_conflict`."""
    return sqlite.insert(table) if session.get_bind().dialect.name == "sqlite" else postgresql.insert(table)


def increment(
    session: Session, endpoint: str, event: Event, *, version: str = NOBODY, seconds: float | None = None,
    count: int = 1,
) -> None:  # fmt: skip
    """Count an event; `seconds` are from a job's acceptance to its answer, where it has one."""
    key = {"endpoint": endpoint, "event": event, "version": version, "bound": bucket(seconds)}
    more = {"count": Counter.count + count, "seconds": Counter.seconds + (seconds or 0.0)}
    row = insert(session, Counter).values(**key, count=count, seconds=seconds or 0.0)
    session.execute(row.on_conflict_do_update(index_elements=list(key), set_=more))


def bucket(seconds: float | None) -> str:
    """The upper bound of a duration's bucket."""
    return "" if seconds is None else BOUNDS[bisect.bisect_left(_LIMITS, seconds)]
