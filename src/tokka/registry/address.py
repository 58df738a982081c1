"""The tracking server's address: which kinds are supported, whether anything answers there, and no password in logs."""

import re

from tokka.errors import TokkaError, UsageError
from tokka.settings import QUIET

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
MISSING_HINT = "list what there is with: tokka review list"
SERVER_HINT = "check MLFLOW_TRACKING_URI, that the server runs and that its disk has room: tokka doctor"


def check(uri: str) -> None:
    """See that the URI is of a kind we support and, for a server, that something answers within seconds.

    Raises:
        UsageError: a relative SQLite path, a plain folder, an unknown scheme.
        TokkaError: nothing answers.
    """
    if uri.startswith(("http://", "https://")):
        _probe(uri)
    elif not uri.startswith(("sqlite:////", "postgresql", "mysql")):
        raise UsageError(
            f"MLFLOW_TRACKING_URI={redacted(uri)!r} is not supported",
            "use sqlite:////absolute/path.db, http(s)://host:port or postgresql://…",
        )


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
