"""One connection to MLflow: its client, the SQLite file behind it, and its errors in our words.

connection = Connection(settings)
with connection.translated("find run 1a2b"):
    connection.client.get_run("1a2b")
"""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError
from tokka.registry import address
from tokka.registry.locks import locked
from tokka.settings import Settings


class Connection:
    """The tracking server that the settings name; nothing is asked before the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def client(self) -> Any:
        """MLflow's own client; a SQLite file that is missing is made first."""
        self.make_sqlite()
        uri = self._settings.tracking_uri
        return import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def artifact_root(self) -> str | None:
        """Where a local server's artifacts go; None when the server decides."""
        local = self._settings.tracking_uri.startswith("sqlite:")
        return (self._settings.home / "artifacts").as_uri() if local else None

    def make_sqlite(self) -> None:
        """Make the SQLite file under a lock; aside first, since one that a kill left half-made is of no use."""
        path = Path(self._settings.tracking_uri.removeprefix("sqlite:///"))
        if self.artifact_root and not path.exists():
            with locked(self._settings, "mlflow-database"):
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
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            where, missing = address.redacted(self._settings.tracking_uri), "RESOURCE_DOES_NOT_EXIST"
            hint = address.MISSING_HINT if getattr(error, "error_code", "") == missing else address.SERVER_HINT
            raise TokkaError(f"MLflow at {where} could not {doing}: {address.redacted(first)}", hint) from error


@functools.cache
def import_mlflow() -> Any:
    """MLflow, quiet: it takes 3 s, so it is imported on first use and not with this module."""
    for name, value in address.CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.exceptions

    for name in ("mlflow.store.db.utils", "alembic", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow
