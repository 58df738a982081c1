"""Leases: a job (a pipeline's run, a replica of the reconciler) that says it lives, for what it holds in the record.

A claim and an attempt live as long as the lease of their job. It is renewed while a step runs and outlasts the pauses
between steps; an exit task ends it, and where that could not run, time does. The end of a process of this machine is
known at once.

Times are those of the record's server, so that the clocks of machines do not matter. Who has lost its lease learns of
it at the next heartbeat, which ends the step, and at each row that it would write.
"""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection, Row, delete, select, update

from tokka import database
from tokka.database import PATIENCE_S
from tokka.deployment.record import owner
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.state import Owner
from tokka.deployment.record.tables import attempts, claims, leases, wanted
from tokka.errors import TokkaError
from tokka.settings import Settings

# A pod may wait for a node so long between two steps.
LEASE_S = 900.0
HEARTBEAT_S = 30.0
TAKEN = -1.0

P = ParamSpec("P")
T = TypeVar("T")


class Lost(TokkaError):
    """Another job has taken over what this one held."""

    @classmethod
    def by(cls, job: str) -> "Lost":
        """What `job` held is another's."""
        return cls(
            f"another run has taken over what the run {job} worked on, since it gave no sign of life for long",
            "look at the newest run of the same data and parameters",
        )


class Terminated(BaseException):
    """SIGTERM came: Kubeflow or a person ends the run; nothing that handles errors may take it for one of its own."""


def grant(connection: Connection, job: str, now: float, holder: Owner | None = None, seconds: float = LEASE_S) -> None:
    """Give a job a lease from now on; `holder` is the process whose end ends it."""
    values = {"until": now + seconds, "owner": holder.model_dump_json() if holder else ""}
    row = database.insert(connection, leases).values(job=job, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["job"], set_=values))


def take_from(connection: Connection, job: str, written: float | None) -> bool:
    """Tell a job that it holds nothing any more; False when its lease no longer ends at `written`."""
    if written is None:
        return True
    same = (leases.c.job == job) & (leases.c.until == written)
    return connection.execute(update(leases).where(same).values(until=TAKEN)).rowcount == 1


def require(connection: Connection, job: str) -> None:
    """Lost when another job has taken what `job` held; its lease cannot be taken before the transaction ends."""
    if connection.execute(select(leases.c.until).where(leases.c.job == job).with_for_update()).scalar() == TAKEN:
        raise Lost.by(job)


def until(row: Row[tuple[float | None, str | None]]) -> float:
    """When a lease (until, owner) ends, in seconds since 1970; 0 when there is none, or its process has ended."""
    ended = bool(row.owner) and owner.has_ended(Owner.model_validate_json(row.owner))
    return 0.0 if row.until is None or ended else max(float(row.until), 0.0)


class Leases:
    """The leases in a record's database."""

    def __init__(self, record: RecordDatabase) -> None:
        self._record = record

    def renew(self, job: str, seconds: float = LEASE_S) -> None:
        """Make a job's lease last from now on, if it has one; Lost when another job has taken it."""
        longer = update(leases).where(leases.c.job == job, leases.c.until >= 0)

        def work(connection: Connection) -> None:
            until = self._record.now(connection) + seconds
            if not connection.execute(longer.values(until=until)).rowcount:
                require(connection, job)

        self._record.transact(work)

    def expire(self, job: str) -> None:
        """Let whoever waits for what a job holds have it now; a job that comes back first goes on with it."""
        over = update(leases).where(leases.c.job == job, leases.c.until > 0).values(until=0.0)
        self._record.transact(lambda connection: connection.execute(over))

    def prove(self) -> None:
        """See that rows can be written and deleted, by doing so in one transaction."""
        job = f"preflight-{os.urandom(6).hex()}"

        def work(connection: Connection) -> None:
            grant(connection, job, self._record.now(connection), seconds=0.0)
            connection.execute(delete(leases).where(leases.c.job == job))

        self._record.transact(work)

    def end(self, job: str, *, succeeded: bool, outcome: str = "failed") -> dict[str, int]:
        """Give free whatever a job held: its claim, its attempt, its wish; returns how many of each.

        An attempt of a run that succeeded and has no outcome yet waits for a person, and stays open; else `outcome` is
        what it came to.
        """
        open_one = update(attempts).where(attempts.c.job == job, attempts.c.outcome == "running")
        closed = open_one.values(job=None) if succeeded else open_one.values(outcome=outcome)
        statements = {
            "claims": delete(claims).where(claims.c.job == job, claims.c.state == "held"),
            "attempts": closed,
            "wanted": delete(wanted).where(wanted.c.job == job, wanted.c.taken == 0),
            "leases": delete(leases).where(leases.c.job == job),
        }

        def work(connection: Connection) -> dict[str, int]:
            return {name: connection.execute(statement).rowcount for name, statement in statements.items()}

        return self._record.transact(work)


def holder(settings: Settings) -> Owner | None:
    """The process that started this job, where that is known: its end ends the lease."""
    return Owner.model_validate_json(settings.job_owner) if settings.job_owner else None


@contextmanager
def kept(settings: Settings) -> Iterator[None]:
    """Renew the lease of this process's job for as long as the block runs; without a job nothing happens.

    A block that fails, or is terminated, leaves what its job holds to whoever waits for it. Lost when another job has
    taken it: before, or while the block ran, which then ends as by SIGTERM.
    """
    if not settings.job:
        yield
        return
    held = Leases(RecordDatabase(settings.record_url, patience_s=PATIENCE_S))
    held.renew(settings.job)
    try:
        with _termination(), _heartbeat(settings):
            yield
    except BaseException:
        with suppress(TokkaError):
            Leases(RecordDatabase(settings.record_url)).expire(settings.job)
        raise


@contextmanager
def _heartbeat(settings: Settings) -> Iterator[None]:
    """A thread of this process, so that it ends with it."""
    # Without patience: the next beat comes soon, and the last one must not outlive the step.
    held, ended, lost = Leases(RecordDatabase(settings.record_url)), threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                held.renew(settings.job)
            except Lost:
                lost.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except TokkaError:  # a database that is away may come back before the lease ends
                continue

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    except Terminated:
        if lost.is_set():
            raise Lost.by(settings.job) from None
        raise
    finally:
        ended.set()
        thread.join()


@contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM as an exception, where nobody else handles it: what is held is given back on the way out."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise Terminated(f"the step was terminated by signal {number}")

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def renewed(step: Callable[P, T]) -> Callable[P, T]:
    """A step that keeps its job's lease while it runs; its settings are its second argument."""

    @functools.wraps(step)
    def run(*arguments: P.args, **named: P.kwargs) -> T:
        settings = arguments[1]
        assert isinstance(settings, Settings)
        with kept(settings):
            return step(*arguments, **named)

    return run
