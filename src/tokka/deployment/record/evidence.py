"""What is known of versions and candidates beside what serves: verdicts of the gate, signed evidence, reviews."""

import json
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, Table, insert, select, update

from tokka import database
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.tables import evidence, judgements, reviews
from tokka.files import JsonObject
from tokka.notifications import Event
from tokka.registry import bundle, signing


class Evidence:
    """The evidence in a record's database, of one endpoint; it does not verify what it keeps."""

    def __init__(self, record: RecordDatabase, endpoint: str) -> None:
        self._record, self._endpoint = record, endpoint

    def judge(self, run_id: str, judgement: Mapping[str, object]) -> None:
        """Keep what the gate decided on a run; a second decision takes the first one's place."""
        row = {"endpoint": self._endpoint, "run_id": run_id}
        self._put(judgements, row, {"judgement": json.dumps(dict(judgement)), "updated": self._record.clock.time()})

    def judgement(self, run_id: str) -> JsonObject | None:
        """What `judge` kept."""
        query = select(judgements.c.judgement).where(
            judgements.c.endpoint == self._endpoint, judgements.c.run_id == run_id
        )
        found = self._record.transact(lambda connection: connection.execute(query).scalar())
        return dict(json.loads(found)) if found else None

    def keep(self, version: str, digest: str, envelope: str) -> None:
        """Keep a version's signed evidence; `digest` is the model's."""
        row = {"endpoint": self._endpoint, "version": version}
        self._put(evidence, row, {"digest": digest, "envelope": envelope, "updated": self._record.clock.time()})

    def envelope(self, version: str) -> str:
        """What `keep` kept; empty when there is nothing."""
        query = select(evidence.c.envelope).where(evidence.c.endpoint == self._endpoint, evidence.c.version == version)
        return self._record.transact(lambda connection: connection.execute(query).scalar()) or ""

    def versions(self) -> list[str]:
        """Every version with evidence, the highest first."""
        query = select(evidence.c.version).where(evidence.c.endpoint == self._endpoint)
        found = self._record.transact(lambda connection: list(connection.execute(query).scalars()))
        return sorted(found, key=int, reverse=True)

    def add_review(self, version: str, digest: str, entry: Mapping[str, object]) -> None:
        """Add to the reviews; `digest` is that of the model that was looked at."""
        row = {"endpoint": self._endpoint, "version": version, "digest": digest, "entry": json.dumps(dict(entry))}
        said = insert(reviews).values(**row, time=self._record.clock.time())
        self._record.transact(lambda connection: connection.execute(said))

    def reviews(self, digest: str) -> list[JsonObject]:
        """Every review of a model, oldest first, whatever its version number was."""
        query = select(reviews.c.entry).where(reviews.c.endpoint == self._endpoint, reviews.c.digest == digest)
        found = self._record.transact(lambda connection: list(connection.execute(query.order_by(reviews.c.id))))
        return [dict(json.loads(entry)) for (entry,) in found]

    def _put(self, table: Table, key: dict[str, str], values: dict[str, object]) -> None:
        same = [table.c[name] == value for name, value in key.items()]

        def work(connection: Connection) -> None:
            changed = connection.execute(update(table).where(*same).values(**values)).rowcount
            if not changed and not database.insert_new(connection, table, {**key, **values}):
                connection.execute(update(table).where(*same).values(**values))

        self._record.transact(work)


def linked(event: Event, connection: Connection) -> Event:
    """The event with the run that made its version, whose report is linked; as it is where nobody knows that run.

    Nothing is verified: a link is all that follows from it.
    """
    named = (evidence.c.endpoint == event.endpoint) & (evidence.c.version == event.version)
    envelope = connection.execute(select(evidence.c.envelope).where(named)).scalar()
    try:
        payload, _ = signing.open_envelope(bundle.KIND, envelope or "")
        return replace(event, run_id=str(json.loads(payload)["run_id"]))
    except (ValueError, KeyError, TypeError):
        return event
