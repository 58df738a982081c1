"""REST: POST /predict and /feedback, the Open Inference Protocol v2, GET /health and /openapi.json, within limits.

An ASGI application without a framework, whose share of a request would be a third. No answer is a 500 and none holds
a traceback: a refusal is {"error": "…"}.
"""

import asyncio
import json
import logging
import re
import signal
import socket
from importlib import resources
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from tokka.processes.web_server import WebServer
from tokka.serving import predict_api
from tokka.serving.batching import Overloaded
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import CANARY, ID, VERSION, Context, Service
from tokka.serving.v2_json import parse_infer, server_metadata, to_json, write_answer

Headers = dict[str, str]
# Status, body (bytes, or what becomes JSON) and further headers.
Reply = tuple[int, object, Headers]

logger = logging.getLogger("tokka.serving")

_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]*))?(/ready|/infer)?/?")
# What a request carries whose answer may come later.
_WAIT = ("Prefer", "Idempotency-Key")
# Without Retry-After: what failed once is likely to fail again, unlike what came at a busy moment.
FAILED = {"error": "the model server could not answer"}


class RestApp:
    """The routes of one worker."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pages: dict[str, object] = {
            "/v2": server_metadata(),
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            "/v2/models": {"models": [service.options.name]},
            "/openapi.json": describe_api(jobs=service.options.jobs),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = Context.from_headers(headers)
        canary = str(int(self._service.is_canary(context)))
        # On refusals too: a revision that refuses what the other one answers must be known by it.
        marks = {VERSION: self._service.options.version, CANARY: canary}
        try:
            status, answer, more = await self._answer(scope, headers, context, receive)
            await reply(send, status, answer, marks | more)
        except BadRequest as error:
            await reply(send, error.status, {"error": str(error)}, marks)
        except Overloaded as error:
            await reply(send, 503, {"error": f"overloaded: {error}"}, {"retry-after": "1"})
        except ConnectionError:
            # The client went away: there is nobody to answer.
            return
        except Exception:
            facts = {"prediction_id": headers.get(ID, "")[:80], "path": scope["path"][:80]}
            logger.exception("a request failed", extra=facts)
            await reply(send, 503, FAILED)

    async def _answer(self, scope: Scope, headers: Headers, context: Context, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path == "/predict":
            return await self._predict(await self._read(method, receive), context)
        if path == "/feedback":
            body = await self._read(method, receive)
            self._service.record_feedback(predict_api.parse_feedback(body, self._service.engine.task))
            return 200, {"accepted": True}, {}
        if found := _MODEL.fullmatch(path):
            name, version, verb = found.groups()
            if version == "":
                raise BadRequest("no version is named", 404)
            self._service.require_served(name, version or "")
            if verb == "/infer":
                return await self._infer(await self._read(method, receive), headers, context)
            _require_get(method)
            return 200, {"name": name, "ready": True} if verb else self._service.metadata(), {}
        return self._page(path, method)

    def _page(self, path: str, method: str) -> Reply:
        if path == "/health":
            # For those who look after this worker; what users see under this path is the gateway's.
            well = self._service.is_well()
            return (200 if well else 503), {"status": "ok" if well else "the model gives no answer"}, {}
        if path.startswith("/v2/repository"):
            # Loading and unloading: what serves is the deployment record's to say.
            raise BadRequest("models are deployed by the deployment record alone", 404)
        if path not in self._pages:
            raise BadRequest("no such path", 404)
        _require_get(method)
        return 200, self._pages[path], {}

    async def _predict(self, body: bytes, context: Context) -> Reply:
        options = self._service.options
        inputs = predict_api.parse_predict(body, max_rows=options.max_rows, pairs=self._service.engine.pairs)
        answers = await self._service.answer(inputs.rows, context)
        return 200, {"predictions": answers} if inputs.several else answers[0], {}

    async def _infer(self, body: bytes, headers: Headers, context: Context) -> Reply:
        call = parse_infer(body, headers)
        tensors, answers = await self._service.infer(call, context)
        return 200, *write_answer(call, answers, tensors, name=self._service.options.name)

    async def _read(self, method: str, receive: Receive) -> bytes:
        """The body of a POST."""
        if method != "POST":
            raise BadRequest("use POST", 405)
        limit = self._service.options.max_body_bytes
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise BadRequest(f"the body has more than {limit} bytes", 413)
            if not message.get("more_body"):
                return b"".join(parts)


async def serve(service: Service, listener: socket.socket, drain: int) -> None:
    """Answer until SIGTERM.

    Args:
        listener: a socket that listens.
        drain: seconds that running requests have after the signal.
    """
    server = WebServer(uvicorn.Config(
        RestApp(service), log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
        timeout_graceful_shutdown=drain, timeout_keep_alive=65,
    ))  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
    # Without uvicorn's own handling of signals, which raises them once more at its end.
    await server._serve([listener])


def describe_api(*, jobs: bool) -> dict[str, Any]:
    """The OpenAPI description of what the gateway lets through.

    Args:
        jobs: whether it takes requests that can wait.
    """
    tree: dict[str, Any] = json.loads(resources.files("tokka.serving").joinpath("openapi.json").read_bytes())
    if not jobs:
        del tree["paths"]["/jobs/{id}"]
        for path in ("/predict", "/v2/models/{model_name}/infer"):
            operation = tree["paths"][path]["post"]
            del operation["responses"]["202"]
            operation["parameters"] = [one for one in operation["parameters"] if one["name"] not in _WAIT]
    return tree


def _require_get(method: str) -> None:
    if method != "GET":
        raise BadRequest("use GET", 405)


async def reply(send: Send, status: int, answer: object, headers: Headers | None = None) -> None:
    """Send a whole answer: bytes as they are, anything else as JSON."""
    body = answer if isinstance(answer, bytes) else to_json(answer)
    fixed = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in fixed.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
