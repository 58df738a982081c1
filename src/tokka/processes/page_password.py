"""A password in front of a web page that has none: who may read a file of ours may use the page, nobody else here.

HTTP basic authentication (RFC 7617) on loopback, where no network is crossed. The user's name is `tokka`.
"""

import base64
import hmac
import secrets
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from tokka import files

USER = "tokka"
# Says nothing of what is kept.
OPEN_TO_ALL = ("/health",)


def password_file(home: Path) -> Path:
    """Where the password of a home's pages is, mode 600; made on first use."""
    path = home / "keys" / "page.password"
    with files.locked(home / "locks" / "page-password.lock", 60.0):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_bytes(path, secrets.token_urlsafe(24).encode(), mode=0o600)
    return path


class Guarded:
    """An ASGI application behind a password."""

    def __init__(self, application: ASGIApp, password: str) -> None:
        self._application = application
        self._wanted = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has the password; 401 for the rest."""
        if scope["type"] == "lifespan" or scope.get("path") in OPEN_TO_ALL:
            await self._application(scope, receive, send)
            return
        given = dict(scope.get("headers") or ()).get(b"authorization", b"")
        if hmac.compare_digest(given, self._wanted):
            await self._application(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"www-authenticate", b'Basic realm="tokka"'), (b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        body = f"the user is {USER}, the password is in TOKKA_HOME/keys/page.password\n".encode()
        await send({"type": "http.response.body", "body": body})
