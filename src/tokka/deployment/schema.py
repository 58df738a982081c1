"""The tables of the deployment record, and an engine on which they exist."""

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    Text,
    create_engine,
    text,
)
from sqlalchemy.engine import make_url

from tokka.sqlite_file import open_sqlite

metadata = MetaData()

endpoints = Table(
    "endpoints",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("updated", Float, nullable=False),
    # When whoever drives the rollout was last alive.
    Column("beat", Float, nullable=False),
    Column("state", Text, nullable=False),
)
history = Table(
    "history",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("updated", Float, nullable=False),
    Column("state", Text, nullable=False),
)
decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("endpoint", String(255), nullable=False, index=True),
    Column("generation", Integer, nullable=False),
    Column("rollout", String(64), nullable=False, index=True),
    Column("version", String(64), nullable=False),
    Column("decision", Text, nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("updated", Float, nullable=False),
    Column("summary", Text, nullable=False),
)
attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("endpoint", String(255), nullable=False, index=True),
    Column("time", Float, nullable=False),
    Column("cause", String(32), nullable=False),
    Column("trigger_key", String(255), nullable=False),
    Column("outcome", String(32), nullable=False),
)

# Any constant: whoever creates the tables of this project on a PostgreSQL server takes this lock.
ADVISORY_LOCK = 7_210_044


def open_engine(url: str) -> Engine:
    """Connect, and create what is missing; safe when many processes do so at once for the first time.

    Raises:
        ValueError: SQLite without a file, which no other process could see.
    """
    place = make_url(url)
    if place.get_backend_name() != "sqlite":
        engine = create_engine(place, poolclass=NullPool)
        with engine.begin() as connection:
            _create_under_advisory_lock(connection)
        return engine
    if place.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file, such as sqlite:////srv/tokka/record.db")
    return open_sqlite(Path(str(place.database)), metadata)


def _create_under_advisory_lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    metadata.create_all(connection)
