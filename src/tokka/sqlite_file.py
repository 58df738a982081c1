"""A SQLite file that several processes write at once, and that loses no commit to a power cut.

engine = open_sqlite(path, metadata)
"""

from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, MetaData, NullPool, create_engine, event, text
from sqlalchemy.engine import URL

BUSY_S = 30.0


def open_sqlite(path: Path, metadata: MetaData, mode: int = 0o666) -> Engine:
    """Make the file and its tables when they are missing; safe when many processes do so at once.

    Args:
        mode: of a new file, less the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A connection per transaction: nothing is shared between threads, or with a forked child.
    place = URL.create("sqlite", database=str(path))
    engine = create_engine(place, poolclass=NullPool, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _set_durable)
    with FileLock(f"{path}.lock"):
        path.touch(mode=mode)
        with engine.begin() as connection:
            connection.execute(text("PRAGMA journal_mode=WAL"))
            metadata.create_all(connection)
    return engine


def _set_durable(connection: Any, _: object) -> None:
    # In WAL mode the default may lose the last commits at a power cut.
    connection.execute("PRAGMA synchronous=FULL")
