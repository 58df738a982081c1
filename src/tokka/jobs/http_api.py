"""The HTTP API of jobs: a request with `Prefer: respond-async` becomes a message, GET /jobs/ID returns its state.

An ASGI application that only the gateway reaches. 202 is sent after the broker has confirmed the message.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from tokka.jobs.broker import Unconfirmed
from tokka.jobs.gateway_client import Interface
from tokka.jobs.job_store import IdTaken, JobStore
from tokka.jobs.messages import Job, encode
from tokka.jobs.tables import StoredJob
from tokka.sections_serving import Serving
from tokka.serving import predict_api
from tokka.serving.engine import Row
from tokka.serving.predict_api import BadRequest
from tokka.serving.rest import Reply, headers_of, read_body, reply, require
from tokka.serving.service import ID
from tokka.serving.v2_json import BINARY, parse_infer

logger = logging.getLogger("tokka.jobs")

KEY = "idempotency-key"
_KEY_FORM = re.compile(r"[\x21-\x7e]{1,200}")
# What tells callers apart: one caller's key must not find another's job.
_CALLER = ("x-tokka-client", "authorization", "x-api-key")


class JobsApi:
    """Takes jobs and returns their state; `limits` are of rows and body bytes, the secret is `job_of`'s.

    `publish` sends a message under an id or raises Unconfirmed; `describe` gives a model's interface, None when
    nothing serves.
    """

    def __init__(
        self, store: JobStore, publish: Callable[[bytes, str], Awaitable[None]], *,
        describe: Callable[[str], Awaitable[Interface | None]], model: str, limits: Serving, secret: bytes,
    ) -> None:  # fmt: skip
        self._store, self._publish, self._describe = store, publish, describe
        self._model, self._limits, self._secret = model, limits, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await reply(send, *await self._respond(scope, receive))
        except BadRequest as error:
            await reply(send, error.status, {"error": str(error)})
        except Unconfirmed as error:
            logger.warning("no job was taken: %s", error)
            await reply(send, 503, {"error": "the queue takes nothing now"}, {"retry-after": "5"})
        except ConnectionError:
            # The client went away: there is nobody to answer.
            return
        except Exception:
            logger.exception("a request failed")
            await reply(send, 503, {"error": "the job could not be taken or found"}, {"retry-after": "1"})

    async def _respond(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if path.startswith("/jobs/"):
            require(method, "GET")
            return await self._look_up(path.removeprefix("/jobs/"))
        require(method, "POST")
        body = await read_body(receive, self._limits.max_body_bytes)
        return await self._take(
            job_of(
                path, body, headers_of(scope), model=self._model, max_rows=self._limits.max_rows, secret=self._secret,
                interface=await self._describe(self._model),
            )
        )  # fmt: skip

    async def _look_up(self, name: str) -> Reply:
        job = await asyncio.to_thread(self._store.find, name)
        if job is None:
            raise BadRequest("no such job: it was never taken, or its result was kept long enough", 404)
        tree = {"job": job.id, "state": _state(job), "created": job.created, "updated": job.updated}
        outcome = {"result": job.answer} if job.state == "done" else job.answer
        return 200, {**tree, **outcome}, {"retry-after": "1"} if _state(job) == "queued" else {}

    async def _take(self, job: Job) -> Reply:
        try:
            stored = await asyncio.to_thread(self._store.claim, job.id, job.digest())
        except IdTaken:
            raise BadRequest("this Idempotency-Key was used for another request: send another key", 422) from None
        if stored.state == "claimed":
            # Queued only once it is confirmed: the same request after a failure in between publishes it again.
            await self._publish(encode(job), job.id)
            await asyncio.to_thread(self._store.accept, job.id, job.digest())
        place = f"/jobs/{job.id}"
        tree = {"job": job.id, "state": _state(stored), "location": place}
        return 202, tree, {"location": place, "preference-applied": "respond-async"}


def _state(job: StoredJob) -> str:
    """As users see it: an unconfirmed message is waiting too."""
    return "queued" if job.state == "claimed" else job.state


def job_of(
    path: str, body: bytes, headers: Mapping[str, str], *,
    model: str, max_rows: int, secret: bytes, interface: Interface | None = None,
) -> Job:  # fmt: skip
    """The job that a request asks for; with the secret the id of an idempotency key cannot be guessed.

    Header names are in lower case. Without an interface nothing serves: what the model would refuse then fails later.
    Raises BadRequest when the request would be refused if it were answered now, or its idempotency key is none.
    """
    job = Job(id=_id(headers, model, secret), model=model, user=headers.get("x-user-id") or None, texts=[])
    if path == "/predict":
        pairs = _takes_pairs(interface, _has_pairs(body))
        rows, several = predict_api.parse_predict(body, max_rows=max_rows, pairs=pairs)
        return _with_rows(replace(job, shape="texts" if several else "text"), rows, interface)
    if path != f"/v2/models/{model}/infer":
        raise BadRequest(f"there is one model here: POST /v2/models/{model}/infer", 404)
    if BINARY in headers:
        raise BadRequest("a request with binary tensors cannot wait: send them as JSON")
    call = parse_infer(body)
    if interface is not None:
        call.tensors("regression" if "value" in interface.outputs else "classification")
    rows = call.rows(max_rows, _takes_pairs(interface, "text_pair" in call.columns))
    job = replace(job, shape="infer", outputs=list(call.outputs) or None, request_id=call.request_id)
    return _with_rows(job, rows, interface)


def _with_rows(job: Job, rows: Sequence[Row], interface: Interface | None) -> Job:
    if interface is not None and "value" in interface.outputs:
        predict_api.require_classes(rows, "regression", ())
    if rows[0].level:
        raise BadRequest("prediction sets are answered at once alone: leave level out, or do not ask to wait")
    partners = [row.pair for row in rows if row.pair is not None] or None
    return replace(job, texts=[row.text for row in rows], text_pairs=partners, top_k=rows[0].top_k or None)


def _takes_pairs(interface: Interface | None, sent: bool) -> bool:
    """Whether the model compares pairs; while that is unknown, whether pairs were sent."""
    return sent if interface is None else "text_pair" in interface.inputs


def _has_pairs(body: bytes) -> bool:
    """Whether a body holds a partner text; one that cannot be read is refused by the parser."""
    with contextlib.suppress(ValueError, RecursionError):
        tree = json.loads(body)
        return isinstance(tree, dict) and bool({"text_pair", "text_pairs"} & set(tree))
    return False


def _id(headers: Mapping[str, str], model: str, secret: bytes) -> str:
    key = headers.get(KEY)
    if key is None:
        # The gateway's id of the request: when it retries, that is the same job.
        return headers[ID]
    if not _KEY_FORM.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 200 printable characters")
    caller = [headers.get(name, "") for name in _CALLER]
    return hmac.new(secret, json.dumps([model, caller, key]).encode(), hashlib.sha256).hexdigest()[:32]
