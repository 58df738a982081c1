"""A database by URL, SQLite's file or a PostgreSQL server, on which the tables that are wanted exist.

engine = open_database("sqlite:////srv/tokka/record.db", metadata)
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, NullPool, create_engine, text
from sqlalchemy.engine import make_url

from tokka.sqlite_file import open_sqlite

# Any constant: whoever creates the tables of this project on a PostgreSQL server takes this lock.
ADVISORY_LOCK = 7_210_044


def open_database(url: str, metadata: MetaData, mode: int = 0o666) -> Engine:
    """Connect, and create what is missing; safe when many processes do so at once for the first time.

    Args:
        mode: of a new SQLite file, less the umask.

    Raises:
        ValueError: SQLite without a file, which no other process could see.
    """
    place = make_url(url)
    if place.get_backend_name() != "sqlite":
        engine = create_engine(place, poolclass=NullPool)
        with engine.begin() as connection:
            _create_under_advisory_lock(connection, metadata)
        return engine
    if place.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file, such as sqlite:////srv/tokka/record.db")
    return open_sqlite(Path(str(place.database)), metadata, mode)


def _create_under_advisory_lock(connection: Connection, metadata: MetaData) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    metadata.create_all(connection)
