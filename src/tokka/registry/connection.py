"""One connection to MLflow: its client, the SQLite file behind it, and its errors in our words."""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tokka import files
from tokka.errors import Missing, TokkaError, UsageError, redacted
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
LOST_KEY = "their secrets were encrypted by another key than keys/mlflow-webhook.key"
LOST_KEY_HINT = "bring that file back from a backup, or delete what is in the table `webhooks` of mlflow.db"
SERVER_HINT = "check MLFLOW_TRACKING_URI, that the server runs and that its disk has room: tokka doctor"


class Refusal(NamedTuple):
    """MLflow's own code for a refusal, and our words."""

    code: str
    said: str
    hint: str


REFUSALS = {
    401: Refusal(
        "UNAUTHENTICATED",
        "asks for credentials",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    ),
    404: Refusal(
        "ENDPOINT_NOT_FOUND", "has no MLflow behind that path", "check MLFLOW_TRACKING_URI, path and port included"
    ),
    403: Refusal("PERMISSION_DENIED", "does not allow these credentials", "have its administrator allow writing"),
}

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

        MLflow's SQLite crashes when several processes create its tables; runs and versions have no unique key.
        """
        return files.locked(self._settings.home / "locks" / f"{name}.lock", timeout)

    def check(self) -> None:
        """UsageError when the URI is of no kind we support, TokkaError when a server does not answer within seconds."""
        uri = self._settings.tracking_uri
        if uri.startswith(("http://", "https://")):
            _probe(uri)
        elif not uri.startswith(("sqlite:////", "postgresql", "mysql")):
            raise UsageError(
                f"MLFLOW_TRACKING_URI={redacted(uri)!r} is not supported",
                "use sqlite:////absolute/path.db, http(s)://host:port or postgresql://…",
            )

    def prove(self) -> None:
        """See that these credentials may write, by setting and deleting a tag; TokkaError when not."""
        experiment, tag = os.environ.get("MLFLOW_EXPERIMENT_ID") or "0", f"tokka.preflight.{os.urandom(6).hex()}"
        with self.translated("set and delete a tag"):
            self.client.set_experiment_tag(experiment, tag, "1")
            # A page for signing in, or any other server that says yes to all, keeps no tag.
            kept = self.client.get_experiment(experiment).tags.get(tag)
            self.client.delete_experiment_tag(experiment, tag)
        if kept != "1":
            where = redacted(self._settings.tracking_uri)
            raise TokkaError(
                f"what answers at {where} is no MLflow: a tag that was set is not there",
                "check MLFLOW_TRACKING_URI; does a page for signing in stand before it?",
            )

    def delete_unread(self, webhook: str) -> None:
        """Delete a webhook by its name from this home's SQLite file, where MLflow cannot decrypt it to do so."""
        if not self.artifact_root:
            return
        from sqlalchemy import create_engine, text

        engine = create_engine(self._settings.tracking_uri)
        with engine.begin() as connection:
            ours = "SELECT webhook_id FROM webhooks WHERE name = :name"
            connection.execute(text(f"DELETE FROM webhook_events WHERE webhook_id IN ({ours})"), {"name": webhook})
            connection.execute(text("DELETE FROM webhooks WHERE name = :name"), {"name": webhook})
        engine.dispose()

    def make_sqlite(self) -> None:
        """Make the SQLite file under a lock; aside first, since one that a kill left half-made is of no use."""
        path = Path(self._settings.tracking_uri.removeprefix("sqlite:///"))
        if not self.artifact_root or path.exists():
            return
        import_mlflow()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with self.locked("mlflow-database"), self.translated("make its tables"):
            if path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = path.with_name(f".{path.name}.new")
            staging.unlink(missing_ok=True)
            SqlAlchemyStore(f"sqlite:///{staging}", self.artifact_root).engine.dispose()
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
            if is_of_a_lost_key(error):
                raise TokkaError(f"MLflow could not {doing}: {LOST_KEY}", LOST_KEY_HINT) from error
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            code, where = getattr(error, "error_code", ""), redacted(self._settings.tracking_uri)
            for status, words in REFUSALS.items():
                if code == words.code or f"error code {status}" in first:
                    raise TokkaError(f"MLflow at {where} {words.said}, to {doing} ({status})", words.hint) from error
            kind, hint = (Missing, MISSING_HINT) if code == MISSING else (TokkaError, SERVER_HINT)
            raise kind(f"MLflow at {where} could not {doing}: {redacted(first)}", hint) from error


def is_of_a_lost_key(error: BaseException) -> bool:
    """Whether MLflow could not decrypt something, which it says by an exception without a word."""
    from cryptography.fernet import InvalidToken

    return isinstance(error.__cause__ or error.__context__, InvalidToken)


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
