"""The tables of the triggers, in the record's database."""

from sqlalchemy import Column, Float, Integer, String, Table, Text

from tokka.deployment.record.tables import metadata

# The queue, and what became of each push.
pushes = Table(
    "pushes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    # Of the same move of the same branch there is one row.
    Column("identity", String(64), nullable=False, unique=True),
    Column("repository", String(255), nullable=False),
    Column("ref", String(255), nullable=False),
    Column("before", String(64), nullable=False),
    Column("after", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("received", Float, nullable=False),
    # queued, started, done, ignored, refused or failed.
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("key", String(64), nullable=False),
    # What came of it, as JSON.
    Column("result", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    # Not before this moment (seconds since 1970): the next try of what failed, the next word to the host.
    Column("due", Float, nullable=False),
    # Whether the commit's note and status say so.
    Column("told", Integer, nullable=False),
)
# Of a branch: the commit that was looked at last, and the last one whose content was decided on; what failed was not.
heads = Table(
    "heads",
    metadata,
    Column("repository", String(255), primary_key=True),
    Column("ref", String(255), primary_key=True),
    Column("commit", String(64), nullable=False),
    Column("decided", String(64), nullable=False),
    Column("updated", Float, nullable=False),
)
# Webhooks that were taken, by the id and by the digest of what was signed.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("received", Float, nullable=False, index=True),
)
