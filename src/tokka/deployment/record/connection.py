"""The record's database as its parts see it: opened once, asked patiently, its errors in our words."""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from tokka.database import open_database, server_time, transact
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.tables import metadata
from tokka.errors import TokkaError, UsageError

T = TypeVar("T")


class RecordDatabase:
    """A SQLite file or a PostgreSQL database with the record's tables.

    `url`: SQLAlchemy's, or PostgreSQL's own; `patience_s`: for how long a server that is away is asked again;
    `later`: open it when it is first asked, and again until it can be.
    UsageError when the URL names none that can be used, TokkaError from every method when it does not answer.
    """

    def __init__(self, url: str, clock: Clock | None = None, patience_s: float = 0.0, *, later: bool = False) -> None:
        self.url, self.clock, self._patience_s = url, clock or time, patience_s
        self._is_given = clock is not None
        self._engine = None if later else self._open()

    def _open(self) -> Engine:
        try:
            return open_database(self.url, metadata, self._patience_s)
        except (ArgumentError, ModuleNotFoundError, ValueError) as error:
            # Without the URL: it may hold a password, and one that cannot be parsed cannot be masked.
            raise UsageError(f"the record's URL cannot be used: {error}", "mend TOKKA_RECORD_URL") from None
        except (DBAPIError, OSError) as error:
            raise _unreachable(self.url, error) from None

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns from one transaction; it may be called twice, and must come to the same then."""
        self._engine = engine = self._engine or self._open()
        try:
            return transact(engine, work, self._patience_s)
        except DBAPIError as error:
            raise _unreachable(self.url, error) from None

    def now(self, connection: Connection) -> float:
        """Seconds since 1970 by the server's clock, one for all machines; by this machine's where the record is a file.

        For what one machine writes and another judges: leases, claims, wishes, and what is seen to serve.
        """
        if self._is_given or connection.dialect.name != "postgresql":
            return self.clock.time()
        return server_time(connection)


def shown(url: str) -> str:
    """A database's URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _unreachable(url: str, error: Exception) -> TokkaError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    where = "the disk, the path and the permissions" if url.startswith("sqlite") else "that the server runs, and"
    return TokkaError(
        f"the deployment record at {shown(url)} does not answer: {reason[0] if reason else repr(error)}",
        f"check {where} of TOKKA_RECORD_URL".replace("and of", "and host, user and password of"),
    )
