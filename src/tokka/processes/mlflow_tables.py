"""The tables of MLflow's database, made or brought up to date by one replica of its server at a time.

    MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://… python -m tokka.processes.mlflow_tables

MLflow's own migrations take no lock: two replicas that start at once break off in the middle of each other's.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from sqlalchemy import NullPool, create_engine, text

from tokka.database import LIBPQ, server_url

# The key of PostgreSQL's advisory lock; any constant would do that no one else in MLflow's database takes.
ADVISORY_LOCK = 7_210_045
MIGRATE = (sys.executable, "-m", "mlflow", "db", "upgrade")


def upgrade(url: str, command: Sequence[str] = MIGRATE) -> int:
    """Run `command` with the URL of a PostgreSQL while nobody else does; returns its exit code."""
    engine = create_engine(server_url(url), poolclass=NullPool, connect_args=LIBPQ)
    with engine.connect() as connection:
        # Of the session: it ends with the connection, whatever becomes of this process.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        return subprocess.run([*command, url], check=False).returncode


if __name__ == "__main__":
    sys.exit(upgrade(os.environ["MLFLOW_BACKEND_STORE_URI"]))
