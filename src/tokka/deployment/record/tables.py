"""The tables of the deployment record."""

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text

metadata = MetaData()

endpoints = Table(
    "endpoints",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("updated", Float, nullable=False),
    # When the owner was last alive.
    Column("beat", Float, nullable=False, key="heartbeat"),
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
