"""The worker's front door: /predict, /feedback and plain v2 requests by hand, everything else to KServe, within limits.

An ASGI application. What is plain does not pass the framework: at 2 CPU-milliseconds a prediction, its share would be
a third. No answer is a 500 and none holds a traceback.
"""

import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tokka.serving import predict_api, service
from tokka.serving.batching import Overloaded
from tokka.serving.infer_answer import infer_answer
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import Context, Service
from tokka.serving.v2_json import BINARY, INPUTS, Asked, parse_infer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("tokka.serving")

_VERSIONED = re.compile(r"(/v2/models/[^/]+)/versions/([^/]*)(/.*)?", re.DOTALL)
# Without Retry-After: what failed once is likely to fail again, unlike what came at a busy moment.
FAILED = {"error": "the model server could not answer"}


class FrontDoor:
    """Limits and the plain routes in front of another ASGI application.

    Args:
        service: answers.
        inner: gets every other path, with the same limit on body bytes.
    """

    def __init__(self, service: Service, inner: Application) -> None:
        self._service = service
        self._inner = inner
        self._routes = {"/predict": self._predict, "/feedback": self._feedback}
        self._infer_path = f"/v2/models/{service.options.name}/infer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        try:
            await self._dispatch(scope, receive, send)
        except BadRequest as error:
            # Marked like an answer: a revision that refuses what the other one answers must be known by it.
            await _reply(send, error.status, {"error": str(error)}, self._marks(Context.from_headers(_headers(scope))))
        except Overloaded as error:
            await _reply(send, 503, {"error": f"overloaded: {error}"}, {"retry-after": "1"})
        except ConnectionError:
            # The client went away: there is nobody to answer.
            return
        except Exception:
            logger.exception("a request failed", extra=_facts(scope))
            await _reply(send, 503, FAILED)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/v2/repository"):
            # Loading and unloading: what serves is the deployment record's to say.
            raise BadRequest("models are deployed by the deployment record alone", 404)
        if scope["path"] == "/health":
            # For those who look after this worker; what users see under this path is the gateway's.
            well = self._service.is_well()
            await _reply(send, 200 if well else 503, {"status": "ok" if well else "the model gives no answer"})
            return
        route = self._routes.get(scope["path"])
        if route is None:
            await self._pass_on(self._as_kserve_takes_it(scope), receive, send)
            return
        if scope["method"] != "POST":
            raise BadRequest("use POST", 405)
        headers = _headers(scope)
        await route(headers, await self._read(receive, headers), send)

    async def _predict(self, headers: dict[str, str], body: bytes, send: Send) -> None:
        options = self._service.options
        inputs = predict_api.parse_predict(body, max_rows=options.max_rows, pairs=self._service.engine.pairs)
        context = Context.from_headers(headers)
        answers = await self._service.answer(inputs.rows, context)
        tree = {"predictions": answers} if inputs.several else answers[0]
        await _reply(send, 200, tree, self._marks(context))

    async def _feedback(self, headers: dict[str, str], body: bytes, send: Send) -> None:
        self._service.record_feedback(predict_api.parse_feedback(body, self._service.engine.task))
        await _reply(send, 200, {"accepted": True})

    def _plain(self, scope: Scope, headers: dict[str, str], body: bytes) -> Asked | None:
        """A v2 request that needs nothing of KServe; what is wrong with one is KServe's to say."""
        if scope["method"] != "POST" or scope["path"] != self._infer_path or BINARY in headers:
            return None
        with contextlib.suppress(BadRequest):
            asked = parse_infer(body)
            return asked if asked.plain else None
        return None

    async def _infer(self, asked: Asked, headers: dict[str, str], send: Send) -> None:
        options, engine = self._service.options, self._service.engine
        texts, partners = (asked.columns.get(name) for name in INPUTS)
        rows = predict_api.make_rows(texts, partners, options.max_rows, engine.pairs, asked.top_k)
        context = Context.from_headers(headers)
        answers = await self._service.answer(rows, context)
        tree = infer_answer(asked, answers, task=engine.task, name=options.name)
        await _reply(send, 200, tree, self._marks(context))

    def _marks(self, context: Context) -> dict[str, str]:
        """Which version answers, and whether it is the canary."""
        canary = self._service.is_canary(context)
        return {service.VERSION: self._service.options.version, service.CANARY: str(int(canary))}

    def _as_kserve_takes_it(self, scope: Scope) -> Scope:
        """Without the version, if it is the one served here: KServe answers 501 where one is named, in a query too."""
        scope = {**scope, "query_string": b""}
        found = _VERSIONED.fullmatch(scope["path"])
        if found is None:
            return scope
        model, version, rest = found.groups(default="")
        if not version or self._service.refusal_of(version):
            raise BadRequest(self._service.refusal_of(version) or "no version is named", 404)
        return {**scope, "path": model + rest}

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let KServe answer; the body is read here first, so that its size has a limit."""
        headers = _headers(scope)
        messages: list[Message] = []
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = await self._read(receive, headers)
            if asked := self._plain(scope, headers, body):
                await self._infer(asked, headers, send)
                return
            messages.append({"type": "http.request", "body": body, "more_body": False})

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        answer = _Answer(send, self._marks(Context.from_headers(headers)))
        try:
            await self._inner(scope, replay, answer.send)
        except Exception:
            if answer.started:
                raise
            logger.exception("a request failed", extra=_facts(scope))
            answer.failed = True
        if answer.failed:
            await _reply(send, 503, FAILED)

    async def _read(self, receive: Receive, headers: dict[str, str]) -> bytes:
        limit = self._service.options.max_body_bytes
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            raise BadRequest(f"the body has {announced} bytes, at most {limit} are taken", 413)
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


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


class _Answer:
    """Another application's answer on its way out: marked with the version, and withheld when it is a 500."""

    def __init__(self, send: Send, marks: dict[str, str]) -> None:
        self._send = send
        self._marks = [(name.encode(), value.encode()) for name, value in marks.items()]
        self.started = False
        self.failed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.failed = message["status"] == 500
            later = [(b"retry-after", b"1")] if message["status"] == 503 else []
            message = {**message, "headers": [*message.get("headers", ()), *self._marks, *later]}
        if not self.failed:
            self.started = True
            await self._send(message)


def _facts(scope: Scope) -> dict[str, str]:
    """What a log line says about a request: its prediction id and its path, nothing that was sent."""
    names = [value.decode("latin-1")[:80] for name, value in scope["headers"] if name == service.ID.encode()]
    return {"prediction_id": names[0] if names else "", "path": scope["path"][:80]}


async def _reply(send: Send, status: int, tree: Any, headers: dict[str, str] | None = None) -> None:
    body = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *more]})
    await send({"type": "http.response.body", "body": body})
