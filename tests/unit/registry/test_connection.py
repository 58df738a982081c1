"""Preflight asks MLflow: what answers but is none, or does not let us in, is said."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tokka.deployment import surroundings
from tokka.errors import TokkaError
from tokka.settings import Settings


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that says the same to whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"You are not authenticated.", "asks for credentials"),
        (403, b"no", "does not allow these credentials"),
        (404, b"no", "has no MLflow behind that path"),
        (200, b"<html>Welcome</html>", "could not set and delete a tag"),
        (200, b"{}", "is no MLflow"),
        (200, b"", "is no MLflow"),
    ],
)
def test_what_is_no_mlflow_that_takes_our_writes_is_said(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    with answering(status, body) as uri, pytest.raises(TokkaError, match=words):
        surroundings.tracking(Settings.from_environment({"TOKKA_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": uri}))
