"""The deployment record: the one place that says which version serves, changed only by compare-and-set.

A registry's aliases are overwritten blindly, so they cannot hold this; they are projected from it.
"""

import json
from collections.abc import Mapping
from typing import TypeVar, Unpack

from sqlalchemy import Connection, Select, Update, insert, select, update

from tokka import database, failpoints
from tokka.deployment.record import notices
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.evidence import linked
from tokka.deployment.record.owner import this_process
from tokka.deployment.record.state import Changes, Decision, State
from tokka.deployment.record.tables import decisions, endpoints, history
from tokka.errors import TokkaError
from tokka.notifications import emit

T = TypeVar("T")


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


class Record(RecordDatabase):
    """One row per endpoint, the history of every accepted change, and every decision."""

    def read(self, endpoint: str) -> State:
        """What the record says now; generation 0 without a champion for an unknown endpoint."""
        found = self._find(select(endpoints.c.state).where(endpoints.c.endpoint == endpoint))
        return State.model_validate_json(found[0]) if found else State(endpoint=endpoint)

    def compare_and_set(
        self, expected: State, *, decision: Decision | None = None, **changes: Unpack[Changes]
    ) -> State:
        """Change an endpoint if it still is as `expected`, and return the new state (generation + 1).

        The change, its line of history, the decision that led to it and what people are told of it are one transaction:
        all or nothing. Superseded
        when the generation moved; ValueError when no champion would be left, or the change makes no sense as a `State`.
        """
        new = State.model_validate({**expected.model_dump(), **changes, **_stamps(expected, changes, self.clock)})
        if expected.champion is not None and new.champion is None:
            raise ValueError(f"{expected.endpoint} would be left without a champion")

        def change(connection: Connection) -> None:
            if not _swap(connection, expected, new):
                if _is_written(connection, new):
                    return
                raise Superseded.of(expected)
            connection.execute(insert(history).values(**_row(new)))
            if decision is not None:
                connection.execute(insert(decisions).values(**_decision(new, decision)))
                if event := notices.of_change(expected, new, decision):
                    emit(linked(event, connection), connection, new.updated)

        with failpoints.at("record"):
            self.transact(change)
        return new

    def heartbeat(self, state: State) -> None:
        """Say that the owner of the rollout of `state` is alive; Superseded when the generation moved meanwhile."""
        beat = _update(state).values(heartbeat=self.clock.time())
        if not self.transact(lambda connection: connection.execute(beat).rowcount):
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
        now = self.clock.time()
        said = insert(decisions).values(**_decision(state, {"time": now, **decision}))
        event = notices.of_decision(state, decision)

        def add(connection: Connection) -> None:
            connection.execute(said)
            if event is not None:
                emit(linked(event, connection), connection, now)

        self.transact(add)

    def decisions(
        self, endpoint: str, *, rollout: str | None = None, version: str | None = None, digest: str = "",
        limit: int = 100,
    ) -> list[Decision]:  # fmt: skip
        """What was decided and why, newest first; of one rollout or one version, if named.

        `digest`: also what was decided on other versions of the model with this digest.
        """
        query = select(decisions.c.decision).where(decisions.c.endpoint == endpoint)
        query = query if rollout is None else query.where(decisions.c.rollout == rollout)
        if version is not None:
            same = decisions.c.version == version
            twin = decisions.c.decision.contains(f'"digest": "{digest}"', autoescape=True)
            query = query.where(same | twin if digest else same)
        return [json.loads(row) for row in self._find(query.order_by(decisions.c.id.desc()).limit(limit))]

    def _find(self, query: Select[T]) -> list[T]:
        return self.transact(lambda connection: [value for (value,) in connection.execute(query)])


def _stamps(expected: State, changes: Changes, clock: Clock) -> dict[str, object]:
    """Who writes a change and when; to set the phase `watch` begins a watch, or begins it anew."""
    if unknown := set(changes) - set(Changes.__annotations__):
        raise ValueError(f"compare_and_set cannot change {sorted(unknown)}")
    now, moment = clock.time(), clock.monotonic()
    watch = {"promoted": now, "promoted_moment": moment} if changes.get("phase") == "watch" else {}
    return {**watch, "generation": expected.generation + 1, "updated": now, "moment": moment, "owner": this_process()}


def _swap(connection: Connection, expected: State, new: State) -> bool:
    """Replace the row of generation `expected.generation`; the write comes first, so that no read gets stale."""
    row = {**_row(new), "heartbeat": new.updated}
    if expected.generation:
        return connection.execute(_update(expected).values(**row)).rowcount == 1
    return database.insert_new(connection, endpoints, row)


def _is_written(connection: Connection, new: State) -> bool:
    """Whether this very change was committed before, and only the answer to it was lost."""
    query = select(history.c.state).where(history.c.endpoint == new.endpoint, history.c.generation == new.generation)
    return connection.execute(query).scalar() == new.model_dump_json()


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
