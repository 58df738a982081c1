"""tokka serve-hooks: takes webhooks over HTTP, and does no more than queue what an authentic one tells.

Nothing of a payload is run or fetched: the worker fetches the address that params.yaml names, and decides by what it
finds there. Whoever is not authorised is told 401 and nothing else.
"""

import asyncio
import logging
import secrets as randomness
import socket
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.sections_serving import Repository, Triggers
from tokka.settings import Settings
from tokka.triggers.queue import Queue
from tokka.triggers.webhooks import MINIMUM_SECRET, Unauthorised, Unusable, authenticate, push

logger = logging.getLogger("tokka.triggers")

PATH = "/hooks"
# A second one while hosts are told the new one.
SECRETS = 2
HINT = "tokka hook secret --new"


class TooLarge(Exception):
    """The body has more bytes than one may have."""


def secret_file(settings: Settings) -> Path:
    """Where the secrets stand, one a line."""
    return settings.home / "hooks" / "webhook.secret"


def read_secrets(path: Path) -> list[bytes]:
    """The secrets that hold now.

    UsageError when there is none, one is too short, there are too many, or others than the owner can read them.
    """
    try:
        mode, found = path.stat().st_mode & 0o777, [line for line in path.read_bytes().split() if line]
    except OSError as error:
        raise UsageError(f"there is no secret for webhooks: {path}: {error.strerror}", f"make one: {HINT}") from None
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others (mode {mode:03o})", f"chmod 600 {path}")
    if not 1 <= len(found) <= SECRETS or any(len(secret) < MINIMUM_SECRET for secret in found):
        what = f"{path} must hold one or two lines of at least {MINIMUM_SECRET} characters each"
        raise UsageError(what, f"make a new one: {HINT}")
    return found


def new_secret(path: Path) -> str:
    """Make a secret, keep the newest one before it beside it, and return it."""
    with files.locked(path.with_name(f"{path.name}.lock")):
        made = randomness.token_urlsafe(32)
        before = path.read_bytes().split()[:1] if path.exists() else []
        files.write_bytes(path, b"".join(line + b"\n" for line in (made.encode(), *before)), mode=0o600)
    return made


def application(queue: Queue, known: dict[str, Repository], wanted: Triggers, secret: Path) -> Starlette:
    """The receiver: POST /hooks, and GET /healthz. The secrets are read at each request: a new one holds at once."""

    async def receive(request: Request) -> Response:
        try:
            body = await _body(request, wanted.max_body_bytes)
            holding = read_secrets(secret)
            headers = {name.lower(): value for name, value in request.headers.items()}
            delivery = authenticate(headers, body, holding, now=time.time(), window_s=wanted.window_s)
            told = push(delivery, body, known)
            said = await asyncio.to_thread(queue.put, told, delivery.ids)
        except (Unauthorised, TooLarge, Unusable, TokkaError, ClientDisconnect) as error:
            return _refusal(error)
        logger.info("%s: %s of %s", said, told.ref, told.repository, extra={"delivery": delivery.ids[0]})
        return JSONResponse({"state": said}, 202 if said == "queued" else 200)

    async def health(_: Request) -> Response:
        return JSONResponse({"state": "ready"})

    made = Starlette(routes=[Route(PATH, receive, methods=["POST"]), Route("/healthz", health)])
    # A redirect would repeat whatever Host header came.
    made.router.redirect_slashes = False
    return made


async def _body(request: Request, most: int) -> bytes:
    """The raw body; TooLarge as soon as it is."""
    if int(request.headers.get("content-length", "0") or 0) > most:
        raise TooLarge
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise TooLarge
    return bytes(body)


def _refusal(error: Exception) -> Response:
    if isinstance(error, Unauthorised):
        return JSONResponse({"error": "unauthorised"}, 401)
    if isinstance(error, TooLarge):
        return JSONResponse({"error": "the body is too large"}, 413, {"connection": "close"})
    if isinstance(error, Unusable):
        return JSONResponse({"state": "ignored", "reason": str(error)}, 200)
    logger.error("a webhook could not be taken: %s", error)
    return JSONResponse({"error": "not now"}, 503, {"retry-after": "30"})


async def serve(app: Starlette, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; UsageError when the port is taken."""
    import signal

    from tokka.processes import web_server

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be listened on: {error.strerror}", "set triggers.port") from None
    listener.listen(128)
    server = web_server.bare(app, drain=5)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    await server._serve([listener])
