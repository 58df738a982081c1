"""One connection to MLflow: its client, the SQLite file behind it, and its errors in our words.

connection = Connection(settings)
with connection.translated("find run 1a2b"):
    connection.client.get_run("1a2b")
"""

import functools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.settings import QUIET, Settings

# A server that is down is said to be down in seconds; MLflow's own defaults take four minutes over it.
CLIENT_ENVIRONMENT = {
    **QUIET,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Standard output belongs to --json.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PROBE_SECONDS = 5.0
LOCK_SECONDS = 120.0
MISSING = "RESOURCE_DOES_NOT_EXIST"
MISSING_HINT = "list what there is with: tokka review list"
SERVER_HINT = "check MLFLOW_TRACKING_URI, that the server runs and that its disk has room: tokka doctor"

# MLflow's client, entities and modules: mypy does not follow its imports.
Foreign = Any


class Connection:
    """The tracking server that the settings name; nothing is asked before the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def client(self) -> Foreign:
        """MLflow's own client; a SQLite file that is missing is made first."""
        self.make_sqlite()
        uri = self._settings.tracking_uri
        return import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def artifact_root(self) -> str | None:
        """Where a local server's artifacts go; None when the server decides."""
        local = self._settings.tracking_uri.startswith("sqlite:")
        return (self._settings.home / "artifacts").as_uri() if local else None

    def locked(self, name: str, timeout: float = LOCK_SECONDS) -> AbstractContextManager[None]:
        """One writer at a time on this machine; `Registry` resolves races between machines after the fact.

        MLflow's SQLite crashes when several processes create its tables, and neither its runs nor its versions have a
        unique key.
        """
        return files.locked(self._settings.home / "locks" / f"{name}.lock", timeout)

    def check(self) -> None:
        """See that the URI is of a kind we support and, for a server, that something answers within seconds.

        Raises:
            UsageError: a relative SQLite path, a plain folder, an unknown scheme.
            TokkaError: nothing answers.
        """
        uri = self._settings.tracking_uri
        if uri.startswith(("http://", "https://")):
            _probe(uri)
        elif not uri.startswith(("sqlite:////", "postgresql", "mysql")):
            raise UsageError(
                f"MLFLOW_TRACKING_URI={redacted(uri)!r} is not supported",
                "use sqlite:////absolute/path.db, http(s)://host:port or postgresql://…",
            )

    def make_sqlite(self) -> None:
        """Make the SQLite file under a lock; aside first, since one that a kill left half-made is of no use."""
        path = Path(self._settings.tracking_uri.removeprefix("sqlite:///"))
        if self.artifact_root and not path.exists():
            with self.locked("mlflow-database"):
                if not path.exists():
                    self._make_tables(path, self.artifact_root)

    def _make_tables(self, path: Path, artifact_root: str) -> None:
        import_mlflow()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f".{path.name}.new")
        staging.unlink(missing_ok=True)
        with self.translated("make its tables"):
            store = SqlAlchemyStore(f"sqlite:///{staging}", artifact_root)
            store.engine.dispose()
        staging.replace(path)
        files.sync_folder(path.parent)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """MLflow's and the disk's errors as one line that names the server and what was tried."""
        mlflow = import_mlflow()
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (mlflow.exceptions.MlflowException, SQLAlchemyError, OSError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = MISSING_HINT if getattr(error, "error_code", "") == MISSING else SERVER_HINT
            where = redacted(self._settings.tracking_uri)
            raise TokkaError(f"MLflow at {where} could not {doing}: {redacted(first)}", hint) from error


@functools.cache
def import_mlflow() -> Foreign:
    """MLflow, quiet: it takes 3 s, so it is imported on first use and not with this module."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.exceptions

    for name in ("mlflow.store.db.utils", "alembic", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def redacted(text: str) -> str:
    """A URI, or a text with one in it, without the password."""
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]+@", r"\1***@", text)


def _probe(uri: str) -> None:
    """Whatever answers HTTP will do; what it says is the business of MLflow's client."""
    import httpx

    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TokkaError(
            f"MLflow at {redacted(uri)} does not answer: {str(error) or type(error).__name__}",
            "start it (tokka up), correct MLFLOW_TRACKING_URI, or unset it to use SQLite in TOKKA_HOME",
        ) from None
