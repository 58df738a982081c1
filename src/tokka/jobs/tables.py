"""Where jobs are kept: one row per job, and what was counted of all of them, those that are forgotten too."""

from typing import Any

from sqlalchemy import Column, Connection, Engine, Float, Index, Integer, MetaData, String, Table, Text
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
    # Of what was asked, so that an id is not used for two different things.
    Column("digest", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("tries", Integer, nullable=False),
    # How often an answer was begun: a message that kills whoever takes it leaves no other trace.
    Column("starts", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Index("asynchronous_jobs_by_age", "endpoint", "updated"),
    # Those that wait are counted and swept again and again, and are few among those that are kept.
    Index("asynchronous_jobs_by_state", "endpoint", "state", "created"),
)
tallies = Table(
    "asynchronous_tallies",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("event", String(16), primary_key=True),
    Column("version", String(64), primary_key=True),
    # The histogram's bucket by its upper bound, as Prometheus writes it; empty for what has no duration.
    Column("bound", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
)
VARIABLE = "TOKKA_JOBS_URL"


def open_jobs(url: str) -> Engine:
    """The database, with its tables; a SQLite file is readable by its owner only.

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
    if engine.dialect.name not in _INSERTS:
        raise UsageError(f"jobs cannot be kept in {engine.dialect.name}", f"{VARIABLE}: SQLite or PostgreSQL")
    return engine


def insert(connection: Connection, table: Table) -> Any:
    """An insert that can say what to do about a row that is there already, in the database's own words."""
    return _INSERTS[connection.dialect.name](table)


_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
