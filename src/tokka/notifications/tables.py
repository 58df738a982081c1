"""The tables of the outbox; they are part of the record's database, which takes them into its own list."""

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text

metadata = MetaData()

events = Table(
    "notifications",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("endpoint", String(255), nullable=False),
    # Seconds since 1970.
    Column("time", Float, nullable=False, index=True),
    Column("event", Text, nullable=False),
)
# What became of an event at one receiver; a row is made when a sender first sees both.
deliveries = Table(
    "notification_deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("receiver", String(64), primary_key=True),
    # waiting, sending (or a sender died of it), sent, given_up; unwanted: the receiver is not told of this kind.
    Column("state", String(8), nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    # Not to be tried before; and when the state was written.
    Column("due", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("error", Text, nullable=False),
)
receivers = Table(
    "notification_receivers",
    metadata,
    Column("name", String(64), primary_key=True),
    # It is told of nothing older.
    Column("since", Float, nullable=False),
    # Who sends to it now, and until when that is believed.
    Column("holder", String(255), nullable=False),
    Column("until", Float, nullable=False),
)
