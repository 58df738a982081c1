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
import time
from importlib import resources
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from tokka.processes import web_server
from tokka.serving import predict_api
from tokka.serving.batching import Overloaded
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import CANARY, ID, NAMED, SHED, UNLOGGED, VERSION, Context, Service
from tokka.serving.v2_json import parse_infer, server_metadata, to_json, write_answer

if TYPE_CHECKING:
    from tokka.gateway.client import JsonObject

Headers = dict[str, str]
# Status, body (bytes, or what becomes JSON) and further headers.
Reply = tuple[int, object, Headers]

logger = logging.getLogger("tokka.serving")

_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]*))?(/ready|/infer)?/?")
# For those who look after a worker, and say nothing of a model.
_OPEN = ("/health", "/metrics")
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
            "/v2/models": {"models": [service.options.name]},
            "/openapi.json": describe_api(jobs=service.options.jobs),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers, began = headers_of(scope), time.perf_counter()
        context = self._service.context(headers)
        try:
            status = await self._respond(scope, headers, context, receive, send)
        except ConnectionError:
            # The client went away: there is nobody to answer.
            return
        if scope["path"].endswith(("/predict", "/infer")):
            self._service.count(context, status, time.perf_counter() - began)

    async def _respond(
        self, scope: Scope, headers: Headers, context: Context, receive: Receive, send: Send
    ) -> int:  # fmt: skip
        """Send the answer, or why there is none; its status."""
        canary = str(int(self._service.is_canary(context)))
        # On refusals too: a revision that refuses what the other one answers must be known by it.
        marks = {VERSION: self._service.options.version, CANARY: canary}
        if "/versions/" in scope["path"]:
            marks[NAMED] = "1"
        try:
            status, answer, more = await self._answer(scope, headers, context, receive)
            marks |= more
        except BadRequest as error:
            status, answer = error.status, {"error": str(error)}
        except Overloaded as error:
            status, answer, marks = 503, {"error": f"overloaded: {error}"}, {"retry-after": "1", SHED: "1"}
        except ConnectionError:
            raise
        except Exception:
            facts = {"prediction_id": headers.get(ID, "")[:80], "path": scope["path"][:80]}
            logger.exception("a request failed", extra=facts)
            status, answer, marks = 503, FAILED, {}
        if self._service.draining:
            # The client's next request then goes where a balancer sends it.
            marks = marks | {"connection": "close"}
        await reply(send, status, answer, marks)
        return status

    async def _answer(self, scope: Scope, headers: Headers, context: Context, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path not in _OPEN:
            self._service.require_gateway(headers)
        if path == "/predict":
            return await self._predict(await self._read(method, receive), context)
        if path == "/feedback":
            body = await self._read(method, receive)
            self._service.record_feedback(predict_api.parse_feedback(body, self._service.engine.task), headers)
            return 200, {"accepted": True}, {}
        if found := _MODEL.fullmatch(path):
            name, version, verb = found.groups()
            if version == "":
                raise BadRequest("no version is named", 404)
            self._service.require_served(name, version or "")
            if verb == "/infer":
                return await self._infer(await self._read(method, receive), headers, context)
            require(method, "GET")
            return self._ready({"name": name}) if verb else (200, self._service.metadata(), {})
        return self._page(path, method)

    def _page(self, path: str, method: str) -> Reply:
        if path == "/health":
            # For those who look after this worker; what users see under this path is the gateway's.
            well = self._service.is_well()
            said = "ok" if well else "the model gives no answer"
            return (200 if well else 503), {"status": said}, {UNLOGGED: str(self._service.unlogged)}
        if path == "/v2/health/ready":
            require(method, "GET")
            return self._ready({})
        if path == "/metrics" and (metrics := self._service.metrics) is not None:
            return 200, self._service.exposition(), {"content-type": metrics.content_type}
        if path.startswith("/v2/repository"):
            # Loading and unloading: what serves is the deployment record's to say.
            raise BadRequest("models are deployed by the deployment record alone", 404)
        if path not in self._pages:
            raise BadRequest("no such path", 404)
        require(method, "GET")
        return 200, self._pages[path], {}

    def _ready(self, named: dict[str, object]) -> Reply:
        ready = self._service.is_ready()
        return (200 if ready else 503), {**named, "ready": ready}, {}

    async def _predict(self, body: bytes, context: Context) -> Reply:
        options = self._service.options
        rows, several = predict_api.parse_predict(body, max_rows=options.max_rows, pairs=self._service.engine.pairs)
        answers = await self._service.answer(rows, context)
        return 200, {"predictions": answers} if several else answers[0], {}

    async def _infer(self, body: bytes, headers: Headers, context: Context) -> Reply:
        call = parse_infer(body, headers)
        tensors, answers = await self._service.infer(call, context)
        return 200, *write_answer(call, answers, tensors, name=self._service.options.name)

    async def _read(self, method: str, receive: Receive) -> bytes:
        require(method, "POST")
        return await read_body(receive, self._service.options.max_body_bytes)


async def serve(service: Service, listener: socket.socket, drain: int) -> None:
    """Answer on a listening socket until SIGTERM and the service's drain; what runs then has `drain` seconds more."""
    server = web_server.bare(RestApp(service), drain=drain, keep_alive=65)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def end() -> None:
        await ended.wait()
        await service.drain()
        server.end()

    ending = asyncio.ensure_future(end())
    # Without uvicorn's own handling of signals, which raises them once more at its end.
    await server._serve([listener])
    ending.cancel()


def describe_api(*, jobs: bool) -> "JsonObject":
    """The OpenAPI description of what the gateway lets through, requests that can wait (`jobs`) or not."""
    tree: JsonObject = json.loads(resources.files("tokka.serving").joinpath("openapi.json").read_bytes())
    if not jobs:
        del tree["paths"]["/jobs/{id}"]
        for path in ("/predict", "/v2/models/{model_name}/infer"):
            operation = tree["paths"][path]["post"]
            del operation["responses"]["202"]
            operation["parameters"] = [one for one in operation["parameters"] if one["name"] not in _WAIT]
    return tree


def headers_of(scope: Scope) -> Headers:
    """The headers of a request by their lower-case names."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def require(method: str, wanted: str) -> None:
    """Raise BadRequest (405) unless a request has the wanted method."""
    if method != wanted:
        raise BadRequest(f"use {wanted}", 405)


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body; raises BadRequest (413) beyond `limit` bytes, ConnectionResetError when the client went away."""
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


async def reply(send: Send, status: int, answer: object, headers: Headers | None = None) -> None:
    """Send a whole answer: bytes as they are, anything else as JSON."""
    body = answer if isinstance(answer, bytes) else to_json(answer)
    fixed = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in fixed.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
