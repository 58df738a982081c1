"""The way in over HTTP: a request with `Prefer: respond-async` becomes a message, GET /jobs/ID says what became of it.

An ASGI application that only the gateway reaches. 202 is sent after the broker has confirmed the message.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tokka.jobs.broker import Unconfirmed
from tokka.jobs.consumer import digest_of
from tokka.jobs.job_request import Interface, job_of
from tokka.jobs.job_store import Kept, Results, Taken
from tokka.jobs.messages import Job, encode
from tokka.serving.predict_api import BadRequest
from tokka.serving.rest import FAILED, Receive, Scope, Send, _reply

logger = logging.getLogger("tokka.jobs")

Answer = tuple[int, dict[str, Any], dict[str, str]]


class Door:
    """Takes jobs and gives results.

    Args:
        results: where they are kept.
        publish: sends a message under an id; raises Unconfirmed.
        describe: says what the model takes and gives; None when nothing serves.
        model: name of the endpoint.
        max_rows: most rows of one job.
        max_body_bytes: more is refused.
        secret: see `job_of`.
    """

    def __init__(
        self, results: Results, publish: Callable[[bytes, str], Awaitable[None]], *,
        describe: Callable[[str], Awaitable[Interface | None]], model: str, max_rows: int, max_body_bytes: int,
        secret: bytes,
    ) -> None:  # fmt: skip
        self._results = results
        self._publish = publish
        self._describe = describe
        self._model, self._max_rows, self._max_body_bytes = model, max_rows, max_body_bytes
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, tree, headers = await self._dispatch(scope, receive)
        except BadRequest as error:
            status, tree, headers = error.status, {"error": str(error)}, {}
        except Unconfirmed as error:
            logger.warning("no job was taken: %s", error)
            status, tree, headers = 503, {"error": "the queue takes nothing now"}, {"retry-after": "5"}
        except Exception:
            logger.exception("a request failed")
            status, tree, headers = 503, FAILED, {"retry-after": "1"}
        await _reply(send, status, tree, headers)

    async def _dispatch(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if path.startswith("/jobs/"):
            if method != "GET":
                raise BadRequest("use GET", 405)
            return await self._look_up(path.removeprefix("/jobs/"))
        if method != "POST":
            raise BadRequest("use POST", 405)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = await self._read(receive)
        job = job_of(
            path, body, headers, model=self._model, max_rows=self._max_rows, secret=self._secret,
            interface=await self._describe(self._model),
        )  # fmt: skip
        return await self._take(job)

    async def _look_up(self, name: str) -> Answer:
        kept = await asyncio.to_thread(self._results.find, name)
        if kept is None:
            raise BadRequest("no such job: it was never taken, or its result was kept long enough", 404)
        return 200, _report(kept), {"retry-after": "1"} if _state(kept) == "queued" else {}

    async def _take(self, job: Job) -> Answer:
        digest = digest_of(job)
        try:
            kept = await asyncio.to_thread(self._results.claim, job.id, digest)
        except Taken:
            raise BadRequest("this Idempotency-Key was used for another request: send another key", 422) from None
        if kept.state == "claimed":
            # Noted as waiting once it is on the queue: who asks again after a failure in between has it sent again.
            await self._publish(encode(job), job.id)
            await asyncio.to_thread(self._results.accept, job.id, digest)
        place = f"/jobs/{job.id}"
        tree = {"job": job.id, "state": _state(kept), "location": place}
        return 202, tree, {"location": place, "preference-applied": "respond-async"}

    async def _read(self, receive: Receive) -> bytes:
        body: bytes = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("the request broke off")
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise BadRequest(f"the body has more than {self._max_body_bytes} bytes", 413)
            if not message.get("more_body"):
                return body


def _report(kept: Kept) -> dict[str, Any]:
    tree: dict[str, Any] = {"job": kept.id, "state": _state(kept), "created": kept.created, "updated": kept.updated}
    if kept.state == "done":
        return {**tree, "result": kept.answer}
    return {**tree, **kept.answer}


def _state(kept: Kept) -> str:
    """As users see it: that a message is not confirmed yet is nothing that they could act on."""
    return "queued" if kept.state == "claimed" else kept.state
