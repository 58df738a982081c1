"""The tables of the deployment record."""

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text

from tokka.notifications import tables as notifications

metadata = MetaData()
# What people are told of is written in the transaction of what happened.
for table in notifications.metadata.sorted_tables:
    table.to_metadata(metadata)

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
# One row per job (a run, a replica of the reconciler) that holds something: claims and attempts live as long as it.
leases = Table(
    "leases",
    metadata,
    Column("job", String(255), primary_key=True),
    # Seconds since 1970; negative: another job has taken what this one held.
    Column("until", Float, nullable=False),
    # The process whose end is known here before the lease runs out, as JSON; empty for a pod.
    Column("owner", Text, nullable=False),
)
# Who works on a key, or what came of it.
claims = Table(
    "claims",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("job", String(255), nullable=False, index=True),
    # held or made.
    Column("state", String(8), nullable=False),
    Column("result", Text, nullable=False),
    Column("updated", Float, nullable=False),
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
    # Whose lease says that it is under way; NULL for one that waits for a person, or of a version before leases.
    Column("job", String(255)),
    # The key of its run, by which another run that goes on with its candidate knows it; NULL until preflight has it.
    Column("run_key", String(255)),
)
# What a pipeline wants to be rolled out where it does not drive the rollout itself.
wanted = Table(
    "wanted",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("job", String(255), nullable=False),
    Column("asked", Float, nullable=False),
    # When the reconciler took it up; 0: not yet.
    Column("taken", Float, nullable=False),
    Column("plan", Text, nullable=False),
    # Of the endpoint when it was asked: what was decided in a later one is about this.
    Column("generation", Integer),
)
# What the reconciler saw serve.
observations = Table(
    "observations",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("updated", Float, nullable=False),
    Column("observed", Text, nullable=False),
)
# What the gate decided on a run, until the run is registered and the verdict signed.
judgements = Table(
    "judgements",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("run_id", String(64), primary_key=True),
    Column("judgement", Text, nullable=False),
    Column("updated", Float, nullable=False),
)
# What a version rests on, signed.
evidence = Table(
    "evidence",
    metadata,
    Column("endpoint", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("envelope", Text, nullable=False),
    Column("updated", Float, nullable=False),
)
# Who decided on a model, when, and on what evidence; never changed.
reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("endpoint", String(255), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("time", Float, nullable=False),
    Column("entry", Text, nullable=False),
)
