"""The tables of asynchronous jobs: one row per job, and counters of all jobs, also of those that were deleted.

    increment(connection, "helpdesk", "done", version="3", seconds=0.8)
    for counter in read_counters(connection, "helpdesk"): ...

A counter is written in the transaction that changes the job, so that each event counts once, in whatever process.
"""

import bisect
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Column, Connection, Engine, Float, Index, Integer, MetaData, String, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from tokka.database import open_database
from tokka.errors import TokkaError, UsageError

metadata = MetaData()
jobs = Table(
    "asynchronous_jobs",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("id", String(100), primary_key=True),
    # Of what is asked, so that an id is not used for two different things.
    Column("digest", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("tries", Integer, nullable=False),
    # How often a message was taken up: one that kills its consumer leaves no other trace.
    Column("starts", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Index("asynchronous_jobs_by_age", "endpoint", "updated"),
    # Jobs that wait are counted often, and are few.
    Index("asynchronous_jobs_by_state", "endpoint", "state", "created"),
)
counters = Table(
    "asynchronous_counters",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("event", String(16), primary_key=True),
    Column("version", String(64), primary_key=True),
    # Upper bound of the histogram's bucket, as Prometheus writes it; empty for an event without a duration.
    Column("bound", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
)
VARIABLE = "TOKKA_JOBS_URL"
DIALECTS = ("sqlite", "postgresql")
Event = Literal["accepted", "done", "failed", "given_up"]
BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "300.0", "1800.0", "3600.0",
          "21600.0", "86400.0", "+Inf")  # fmt: skip
NOBODY = "none"
_LIMITS = [float(bound) for bound in BOUNDS]


@dataclass(frozen=True)
class Counter:
    """How often an event happened with answers of one version within one bucket of duration, and the sum of seconds."""

    event: str
    version: str
    bound: str
    count: int
    seconds: float


def open_jobs(url: str) -> Engine:
    """The database, with its tables; only its owner can read a SQLite file.

    Raises:
        UsageError: the URL names no database that can be used.
        TokkaError: it does not answer.
    """
    try:
        engine = open_database(url, metadata, mode=0o600)
    except (ArgumentError, ModuleNotFoundError, ValueError) as error:
        # Without the URL: it may hold a password.
        raise UsageError(f"the jobs' URL cannot be used: {error}", f"mend {VARIABLE}") from None
    except (DBAPIError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise TokkaError(f"the jobs' database does not answer: {reason}", f"check what {VARIABLE} names") from None
    if engine.dialect.name not in DIALECTS:
        raise UsageError(f"jobs cannot be kept in {engine.dialect.name}", f"{VARIABLE}: SQLite or PostgreSQL")
    return engine


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert of the database's own dialect, which has `on_conflict`."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def increment(
    connection: Connection, endpoint: str, event: Event, *,
    version: str = NOBODY, seconds: float | None = None, count: int = 1,
) -> None:  # fmt: skip
    """Count an event.

    Args:
        seconds: from a job's acceptance to its answer, for an event that has a duration.
    """
    key = {"endpoint": endpoint, "event": event, "version": version, "bound": bucket(seconds)}
    more = {"count": counters.c.count + count, "seconds": counters.c.seconds + (seconds or 0.0)}
    row = insert(connection, counters).values(**key, count=count, seconds=seconds or 0.0)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=more))


def read_counters(connection: Connection, endpoint: str) -> list[Counter]:
    """Every counter of an endpoint."""
    wanted = [counters.c[name] for name in Counter.__dataclass_fields__]
    return [Counter(*row) for row in connection.execute(select(*wanted).where(counters.c.endpoint == endpoint))]


def bucket(seconds: float | None) -> str:
    """The upper bound of a duration's bucket."""
    return "" if seconds is None else BOUNDS[bisect.bisect_left(_LIMITS, seconds)]
