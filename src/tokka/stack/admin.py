"""The admin port: one page to see what serves, its data as JSON, and /metrics for Prometheus; nothing can be changed.

| GET               | Gives                                             |
|-------------------|---------------------------------------------------|
| /                 | the page; it asks for /status.json each second    |
| /status.json      | what the page shows                               |
| /metrics          | Prometheus's text format                          |
| /reports/NAME     | a report of this home                             |
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tokka.errors import TokkaError
from tokka.gateway.gateway import HOST, require_free
from tokka.stack.admin_data import AdminData, report_path

PAGE = Path(__file__).with_name("admin.html")
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "no-referrer"}
# The page holds its own style and script, and talks to nobody else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
# A report brings scripts of other people: they run in an origin of their own, which may ask for nothing.
REPORT_POLICY = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
REPORT_POLICY += "; script-src 'unsafe-inline' 'unsafe-eval'"
TIMEOUT_SECONDS = 10


class AdminServer:
    """A thread of the daemon; without its port the stack serves all the same, and says why there is no page."""

    def __init__(self, port: int, data: AdminData, home: Path) -> None:
        self.url = self.problem = ""
        self._server: ThreadingHTTPServer | None = None
        try:
            require_free(port)
            self._server = _Server((HOST, port), _handler(data, home))
        except (TokkaError, OSError) as error:
            self.problem = f"no page: {error}; TOKKA_ADMIN_PORT names another port"
            return
        self.url = f"http://{HOST}:{port}"
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: the visitor went away."""


def _handler(data: AdminData, home: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_SECONDS
        server_version, sys_version = "tokka", ""

        def do_GET(self) -> None:
            if is_local(self.headers.get("host", "")):
                status, body, kind, policy = answer(unquote(urlsplit(self.path).path), data, home)
            else:
                status, body, kind, policy = _refusal(403, "ask for 127.0.0.1 or localhost")
            self.send_response(status)
            facts = {"content-type": kind, "content-length": str(len(body)), "content-security-policy": policy}
            for name, value in {**facts, **HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """In JSON, as every refusal; a method that is not there is 405, and not a server's failure."""
            status = 405 if code == 501 else code
            body = json.dumps({"error": "use GET" if status == 405 else message or "not an HTTP request"}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a page that asks each second would fill the log."""

    return Handler


def is_local(host: str) -> bool:
    """Whether a Host header names this machine: a foreign name that leads here is another site's attempt to read."""
    return host.rpartition(":")[0] in (HOST, "localhost") or host in (HOST, "localhost")


def answer(path: str, data: AdminData, home: Path) -> tuple[int, bytes, str, str]:
    """Status, body, content type and content security policy of one GET."""
    if path == "/":
        return 200, PAGE.read_bytes(), "text/html; charset=utf-8", POLICY
    if path == "/status.json":
        body = json.dumps(data.status(), allow_nan=False, ensure_ascii=False).encode()
        return 200, body, "application/json", POLICY
    if path == "/metrics":
        return 200, data.live.exposition(), data.live.content_type, POLICY
    report = report_path(home, path.removeprefix("/reports/")) if path.startswith("/reports/") else None
    if report is not None:
        return 200, report.read_bytes(), "text/html; charset=utf-8", REPORT_POLICY
    return _refusal(404, "no such path: use /, /status.json or /metrics")


def _refusal(status: int, why: str) -> tuple[int, bytes, str, str]:
    return status, json.dumps({"error": why}).encode(), "application/json", POLICY
