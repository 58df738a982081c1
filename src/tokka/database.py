"""A database by URL, a SQLite file or a PostgreSQL server, with the tables that are wanted.

engine = open_database("sqlite:////srv/tokka/record.db", metadata)
"""

import time
from pathlib import Path

from sqlalchemy import Engine, MetaData, NullPool, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection

from tokka import files

# The key of PostgreSQL's advisory lock under which the tables of this project are created; any constant would do.
ADVISORY_LOCK = 7_210_044
BUSY_S = 30.0
# Longer than the steps of the clock that stamps files.
RESOLUTION_NS = 50_000_000


def open_database(url: str, metadata: MetaData, mode: int = 0o666) -> Engine:
    """Connect, and create what is missing; safe when many processes do so at once for the first time.

    Each transaction has its own connection: nothing is shared between threads, or with a forked child.

    Args:
        mode: of a new SQLite file, less the umask.

    Raises:
        ValueError: SQLite without a file, which no other process could see.
    """
    place = make_url(url)
    if place.get_backend_name() != "sqlite":
        return _open_server(place, metadata)
    if place.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file, such as sqlite:////srv/tokka/record.db")
    return _open_sqlite(Path(str(place.database)), metadata, mode)


def _open_server(place: URL, metadata: MetaData) -> Engine:
    engine = create_engine(place, poolclass=NullPool)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        metadata.create_all(connection)
    return engine


def _open_sqlite(path: Path, metadata: MetaData, mode: int) -> Engine:
    place = URL.create("sqlite", database=str(path))
    engine = create_engine(place, poolclass=NullPool, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _set_durable)
    with files.locked(path.with_name(f"{path.name}.lock")):
        path.touch(mode=mode)
        with engine.begin() as connection:
            connection.execute(text("PRAGMA journal_mode=WAL"))
            metadata.create_all(connection)
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
