"""A database by URL, a SQLite file or a PostgreSQL server, with the tables that are wanted."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, MetaData, NullPool, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from tokka import files

# The key of PostgreSQL's advisory lock under which the tables of this project are created; any constant would do.
ADVISORY_LOCK = 7_210_044
BUSY_S = 30.0
# How long a step waits for a server that is away: nothing is lost meanwhile, and a restart takes less.
PATIENCE_S = 90.0
# A server that is gone is known to be gone in seconds, also when its machine fell silent in the middle of an answer.
LIBPQ = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "tokka",
}
# A refusal is final, but for these: the server will soon take whoever comes. They are PostgreSQL's states
# 57P03 (cannot connect now) and 53300 (too many connections); a connection that was never made brings no code along.
PASSING = (
    "starting up",
    "shutting down",
    "recovery mode",
    "accepting connections",
    "too many clients",
    "too many connections",
    "connection slots",
)

T = TypeVar("T")
# Longer than the steps of the clock that stamps files.
RESOLUTION_NS = 50_000_000


def open_database(url: str, metadata: MetaData, patience_s: float = 0.0) -> Engine:
    """Connect, and create what is missing; safe when many processes do so at once for the first time.

    Each transaction has its own connection: nothing is shared between threads, or with a forked child, and none is
    found broken. `postgresql://` means psycopg. Only its owner can read a new SQLite file.

    `patience_s`: as for `transact`. ValueError for SQLite without a file, which no other process could see.
    """
    place = server_url(url)
    if place.get_backend_name() != "sqlite":
        return _open_server(place, metadata, patience_s)
    if place.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file, such as sqlite:////srv/tokka/record.db")
    return _open_sqlite(Path(str(place.database)), metadata)


def server_url(url: str) -> URL:
    """A URL with the driver that speaks to its server: psycopg, where PostgreSQL's own form names none."""
    place = make_url(url)
    return place.set(drivername="postgresql+psycopg") if place.drivername in ("postgresql", "postgres") else place


def transact(engine: Engine, work: Callable[[Connection], T], patience_s: float = 0.0) -> T:
    """What `work` returns from one transaction, begun anew when the server went away, for up to `patience_s` seconds.

    `work` must come to the same when it was committed before: a commit may be lost on its way back.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    def once() -> T:
        with engine.begin() as connection:
            return work(connection)

    stop, wait = stop_after_delay(patience_s), wait_random_exponential(0.1, max=3.0)
    return Retrying(stop=stop, wait=wait, retry=retry_if_exception(is_away), reraise=True)(once)


def server_time(connection: Connection) -> float:
    """Seconds since 1970 by PostgreSQL's clock, one for all machines; by this machine's for a file."""
    if connection.dialect.name != "postgresql":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def is_away(error: BaseException) -> bool:
    """Whether a server could not be reached, or broke off: waiting may help, where a refusal stays one."""
    if not isinstance(error, DBAPIError) or "sqlite" in type(error.orig).__module__:
        return False
    said = str(error.orig)
    refused = "FATAL" in said and not any(words in said for words in PASSING)
    # A connection that was never made has no code of an error.
    return error.connection_invalidated or (getattr(error.orig, "sqlstate", "") is None and not refused)


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert of the database's own dialect, which has `on_conflict`."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def insert_new(connection: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless there is one with its key; whether it was inserted."""
    made = insert(connection, table).values(**row).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return connection.execute(made).first() is not None


def _open_server(place: URL, metadata: MetaData, patience_s: float) -> Engine:
    arguments = LIBPQ if place.drivername in ("postgresql+psycopg", "postgresql+psycopg2") else {}
    engine = create_engine(place, poolclass=NullPool, connect_args=arguments)

    def prepare(connection: Connection) -> None:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        _make_tables(connection, metadata)

    transact(engine, prepare, patience_s)
    return engine


def _make_tables(connection: Connection, metadata: MetaData) -> None:
    """Create the tables that are missing, and the columns that a table of an earlier version lacks: all may be NULL."""
    metadata.create_all(connection)
    found = inspect(connection).get_multi_columns(filter_names=list(metadata.tables))
    there = {(name, column["name"]) for (_, name), columns in found.items() for column in columns}
    quote, dialect = connection.dialect.identifier_preparer.quote, connection.dialect
    for table in metadata.sorted_tables:
        for column in table.columns:
            if (table.name, column.name) not in there:
                kind = column.type.compile(dialect)
                connection.execute(text(f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"))


def _open_sqlite(path: Path, metadata: MetaData) -> Engine:
    place = URL.create("sqlite", database=str(path))
    engine = create_engine(place, poolclass=NullPool, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _set_durable)
    with files.locked(path.with_name(f"{path.name}.lock")):
        path.touch(mode=0o600)
        with engine.begin() as connection:
            connection.execute(text("PRAGMA journal_mode=WAL"))
            _make_tables(connection, metadata)
    return engine


def _set_durable(connection: DBAPIConnection, _: object) -> None:
    """Sync every commit: in WAL mode SQLite's default may lose the last ones at a power cut."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


class Commits:
    """Tells from a SQLite file's stamps, without opening it, whether something was committed; see `mark`."""

    def __init__(self, url: str) -> None:
        # Other databases have no file to look at: they have to be asked.
        path = make_url(url).database if url.startswith("sqlite") else None
        self.is_watchable = path is not None
        self._files = [Path(f"{path}{suffix}") for suffix in ("", "-wal")] if path else []
        self._known: list[tuple[int, int]] | None = None

    def mark(self) -> None:
        """Remember the file as it is; to be called before reading from the database.

        A stamp that is younger than its resolution is not remembered: another commit may yet get the same one.
        """
        stamps, now = self._stamps(), time.time_ns()
        self._known = stamps if all(now - modified > RESOLUTION_NS for modified, _ in stamps) else None

    def seen(self) -> bool:
        """Whether something may have been committed since the last `mark`; False for what cannot be watched."""
        return self.is_watchable and self._stamps() != self._known

    def _stamps(self) -> list[tuple[int, int]]:
        return [_stamp(path) for path in self._files]


def _stamp(path: Path) -> tuple[int, int]:
    """Time (ns) and size of a file; one that is empty holds as much as one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return (found.st_mtime_ns, found.st_size) if found.st_size else (0, 0)
