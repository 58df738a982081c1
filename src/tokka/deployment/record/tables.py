"""The tables of the deployment record, and an engine on which they exist."""

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, Text

from tokka.database import open_database

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


def open_engine(url: str) -> Engine:
    """The record's database, with its tables; see `open_database`.

    Raises:
        ValueError: SQLite without a file, which no other process could see.
    """
    return open_database(url, metadata)
