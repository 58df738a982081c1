"""The deployment record: the one place that says which version serves, changed only by compare-and-set.

A registry's aliases are overwritten blindly, so they cannot hold this; they are projected from it.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, Unpack

from sqlalchemy import Connection, Select, Update, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from tokka import failpoints
from tokka.database import open_database
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.owner import this_process
from tokka.deployment.record.state import Changes, Decision, State
from tokka.deployment.record.tables import decisions, endpoints, history, metadata, runs
from tokka.errors import TokkaError, UsageError

T = TypeVar("T")
# What is not the caller's to say.
STAMPS = {"endpoint", "generation", "updated", "moment", "promoted", "promoted_moment", "owner"}


class Superseded(TokkaError):
    """Someone else changed the record first; what was read, `expected`, is no longer true."""

    expected: State | None = None

    @classmethod
    def of(cls, expected: State) -> "Superseded":
        """Another process changed the record after `expected` was read."""
        error = cls(
            f"the deployment of {expected.endpoint} moved on from generation {expected.generation}",
            "another rollout or rollback was faster: see tokka status",
        )
        error.expected = expected
        return error


class Record:
    """One row per endpoint, the history of every accepted change, every decision, and the ledger of runs.

    Args:
        url: an SQLAlchemy URL; a file of SQLite or a PostgreSQL database.
        clock: tells the time that is written beside each change.

    Raises:
        UsageError: the URL names no database that can be used.
        TokkaError: from every method, when the database does not answer.
    """

    def __init__(self, url: str, clock: Clock = time) -> None:
        self.url = url
        self.clock = clock
        try:
            self._engine = open_database(url, metadata)
        except (ArgumentError, ModuleNotFoundError, ValueError) as error:
            # Without the URL: it may hold a password, and one that cannot be parsed cannot be masked.
            raise UsageError(f"the record's URL cannot be used: {error}", "mend TOKKA_RECORD_URL") from None
        except (DBAPIError, OSError) as error:
            raise _unreachable(url, error) from None

    def read(self, endpoint: str) -> State:
        """What the record says now; generation 0 without a champion for an unknown endpoint."""
        found = self._find(select(endpoints.c.state).where(endpoints.c.endpoint == endpoint))
        return State.model_validate_json(found[0]) if found else State(endpoint=endpoint)

    def compare_and_set(
        self, expected: State, *, decision: Decision | None = None, **changes: Unpack[Changes]
    ) -> State:
        """Change an endpoint if it still is as `expected`, and return the new state (generation + 1).

        The change, its line of history and the decision that led to it are one transaction: all or nothing.

        Raises:
            Superseded: the generation moved since `expected` was read.
            ValueError: the change leaves no champion where there was one, or makes no sense as a `State`.
        """
        new = State.model_validate({**expected.model_dump(), **changes, **_stamps(expected, changes, self.clock)})
        if expected.champion is not None and new.champion is None:
            raise ValueError(f"{expected.endpoint} would be left without a champion")
        with failpoints.at("record"), self._transaction() as connection:
            if not _swap(connection, expected, new):
                raise Superseded.of(expected)
            connection.execute(insert(history).values(**_row(new)))
            if decision is not None:
                connection.execute(insert(decisions).values(**_decision(new, decision)))
        return new

    def heartbeat(self, state: State) -> None:
        """Say that the owner of the rollout of `state` is alive; the generation stays.

        Raises:
            Superseded: the generation moved since `state` was written.
        """
        with self._transaction() as connection:
            if not connection.execute(_update(state).values(heartbeat=self.clock.time())).rowcount:
                raise Superseded.of(state)

    def last_heartbeat(self, endpoint: str) -> float | None:
        """When the owner of this endpoint was last known to be alive (seconds since 1970)."""
        found = self._find(select(endpoints.c.heartbeat).where(endpoints.c.endpoint == endpoint))
        return found[0] if found else None

    def history(self, endpoint: str, limit: int = 100) -> list[dict[str, object]]:
        """The accepted states of an endpoint as plain data, newest first."""
        query = select(history.c.state).where(history.c.endpoint == endpoint)
        return [json.loads(row) for row in self._find(query.order_by(history.c.generation.desc()).limit(limit))]

    def add_decision(self, state: State, decision: Decision) -> None:
        """Write down what a judge said about `state` and on what, without changing anything."""
        with self._transaction() as connection:
            connection.execute(insert(decisions).values(**_decision(state, {"time": self.clock.time(), **decision})))

    def decisions(
        self, endpoint: str, *, rollout: str | None = None, version: str | None = None, limit: int = 100
    ) -> list[Decision]:
        """What was decided and why, newest first; of one rollout or one version, if named."""
        query = select(decisions.c.decision).where(decisions.c.endpoint == endpoint)
        query = query if rollout is None else query.where(decisions.c.rollout == rollout)
        query = query if version is None else query.where(decisions.c.version == version)
        return [json.loads(row) for row in self._find(query.order_by(decisions.c.id.desc()).limit(limit))]

    def remember_run(self, key: str, summary: Mapping[str, object]) -> None:
        """Keep what the run with this idempotency key came to; a later summary replaces it."""
        values = {"summary": _json(summary), "updated": self.clock.time()}
        with self._transaction() as connection:
            if not connection.execute(update(runs).where(runs.c.key == key).values(**values)).rowcount:
                connection.execute(insert(runs).values(key=key, **values))

    def recall_run(self, key: str) -> dict[str, Any] | None:
        """What `remember_run` kept under this key."""
        found = self._find(select(runs.c.summary).where(runs.c.key == key))
        return dict(json.loads(found[0])) if found else None

    def _find(self, query: Select[T]) -> list[T]:
        with self._transaction() as connection:
            return [value for (value,) in connection.execute(query)]

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _unreachable(self.url, error) from None


def _stamps(expected: State, changes: Changes, clock: Clock) -> dict[str, object]:
    """Who writes a change and when; to set the phase `watch` begins a watch, or begins it anew."""
    unknown = set(changes) - set(State.model_fields) | set(changes) & STAMPS
    if unknown:
        raise ValueError(f"compare_and_set cannot change {sorted(unknown)}")
    now, moment = clock.time(), clock.monotonic()
    watch = {"promoted": now, "promoted_moment": moment} if changes.get("phase") == "watch" else {}
    return {**watch, "generation": expected.generation + 1, "updated": now, "moment": moment, "owner": this_process()}


def _swap(connection: Connection, expected: State, new: State) -> bool:
    """Replace the row of generation `expected.generation`; the write comes first, so that no read gets stale."""
    row = {**_row(new), "heartbeat": new.updated}
    if expected.generation:
        return connection.execute(_update(expected).values(**row)).rowcount == 1
    try:
        connection.execute(insert(endpoints).values(**row))
    except IntegrityError:
        return False
    return True


def _update(state: State) -> Update:
    """Of an endpoint, as long as it is as in `state`."""
    same = (endpoints.c.endpoint == state.endpoint) & (endpoints.c.generation == state.generation)
    return update(endpoints).where(same)


def _row(state: State) -> dict[str, object]:
    facts = state.model_dump(include={"endpoint", "generation", "updated"})
    return {**facts, "state": state.model_dump_json()}


def _decision(state: State, decision: Decision) -> dict[str, object]:
    said = {"generation": state.generation, "time": state.updated, **decision}
    where = state.model_dump(include={"endpoint", "generation", "rollout"})
    return {**where, "version": decision.get("version", ""), "decision": _json(said)}


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), allow_nan=False, ensure_ascii=False)


def _unreachable(url: str, error: Exception) -> TokkaError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    shown = make_url(url).render_as_string(hide_password=True)
    return TokkaError(
        f"the deployment record at {shown} does not answer: {reason[0] if reason else repr(error)}",
        "check the disk, the path and the permissions of TOKKA_RECORD_URL",
    )
