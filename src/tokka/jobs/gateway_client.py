"""A job's request to the gateway, like any other client's, so that split, canary and request log hold for jobs too."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay

from tokka.gateway.api_keys import own_headers
from tokka.gateway.client import JsonObject, reason
from tokka.jobs.consumer import Failed, Refused, Unavailable
from tokka.jobs.messages import Job

# While nothing serves a job waits here, then on the queue: a broker takes back what is held too long.
UNAVAILABLE_SECONDS = 600.0
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
TIMEOUT_SECONDS = 60.0
# An API key with the scope "predict", for a consumer beside another machine's gateway.
KEY_VARIABLE = "TOKKA_KEY"
# The job is wrong. The consumer's own mistakes (a key that expired) and an overload are not the job's: it waits.
REFUSALS = (400, 404, 405, 413, 415, 422, 431)
WAITS = (401, 403, 408, 429)
# The description of the model is cached for so long, and waited for no longer than this.
FRESH_SECONDS, DESCRIBE_SECONDS = 5.0, 1.0
# The gateway's header on a 503 that was a 502 or a 504 inside.
BROKE_OFF = "x-tokka-failed"


@dataclass(frozen=True)
class Interface:
    """What the model takes and gives now, by the names of the v2 protocol."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Busy(Exception):
    """Nothing answers now: ask again in some seconds."""

    def __init__(self, message: str, seconds: float = PAUSE_SECONDS) -> None:
        super().__init__(message)
        self.seconds = seconds


class GatewayClient:
    """Asks an endpoint, and waits for `patience_seconds` while nothing serves there.

    `identify` gives the headers with a credential; it is called for each request, since keys change. `sleep` waits for
    so many seconds.
    """

    def __init__(
        self, endpoint: str, identify: Callable[[], Mapping[str, str]], *,
        patience_seconds: float = UNAVAILABLE_SECONDS, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._client = httpx.AsyncClient(base_url=endpoint, timeout=TIMEOUT_SECONDS, trust_env=False)
        self._identify = identify
        self._patience_seconds, self._sleep = patience_seconds, sleep
        self._interface: tuple[float, Interface | None] | None = None

    async def ask(self, job: Job) -> JsonObject:
        """The endpoint's answer; raises Refused when it says that the job is wrong.

        Raises Failed when the endpoint serves and yet did not answer, Unavailable when in all the time nothing served,
        or nothing that had capacity or accepted the credential.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Busy), wait=_pause_wanted, reraise=True,
            stop=stop_before_delay(self._patience_seconds), sleep=self._sleep,
        )  # fmt: skip
        try:
            return await retrying(self._ask, job)
        except _Busy as error:
            raise Unavailable(f"{self._client.base_url} for {self._patience_seconds:.0f} s: {error}") from None

    async def interface(self, model: str) -> Interface | None:
        """What the model takes and gives, at most some seconds old; None when nothing describes it."""
        known = self._interface
        if known is None or time.monotonic() - known[0] > FRESH_SECONDS:
            self._interface = known = (time.monotonic(), await self._describe(model))
        return known[1]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, job: Job) -> JsonObject:
        try:
            return _answer(await self._post(job))
        except Failed as error:
            if await self._serves():
                raise
            raise _Busy(f"nothing serves: {error}") from None

    async def _post(self, job: Job) -> httpx.Response:
        path, tree = question(job)
        headers = headers_of(self._identify(), job.user)
        try:
            return await self._client.post(path, json=tree, headers=headers)
        except httpx.LocalProtocolError as error:
            # The user is a valid header by now, so that the consumer's credential is none.
            raise Unavailable(f"the question cannot be sent: see {KEY_VARIABLE} ({error})") from None
        except httpx.HTTPError as error:
            raise Failed(f"no answer ({type(error).__name__})") from None

    async def _describe(self, model: str) -> Interface | None:
        headers = dict(self._identify())
        try:
            response = await self._client.get(f"/v2/models/{model}", headers=headers, timeout=DESCRIBE_SECONDS)
            tree = response.json()
            return Interface(*(tuple(str(tensor["name"]) for tensor in tree[side]) for side in ("inputs", "outputs")))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    async def _serves(self) -> bool:
        try:
            return (await self._client.get("/health")).status_code == 200
        except httpx.HTTPError:
            return False


def _answer(response: httpx.Response) -> JsonObject:
    """The JSON object of a response with status 200; every other status is one of our errors."""
    status = response.status_code
    if status in REFUSALS:
        raise Refused(reason(response))
    # A 503 after which the gateway gave up counts as a try: otherwise a job that kills workers would go on for ever.
    overloaded = status == 503 and "retry-after" in response.headers and BROKE_OFF not in response.headers
    if overloaded or status in WAITS:
        wanted = response.headers.get("retry-after", "")
        seconds = min(max(float(wanted), PAUSE_SECONDS), LONGEST_PAUSE_SECONDS) if wanted.isdecimal() else PAUSE_SECONDS
        raise _Busy(f"answered {status}: {reason(response)}", seconds)
    if status != 200:
        raise Failed(f"answered {status}: {reason(response)}")
    try:
        return dict(response.json())
    except (ValueError, TypeError):
        raise Failed("the answer is no JSON object") from None


def _pause_wanted(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, _Busy) else PAUSE_SECONDS


def headers_of(identity: Mapping[str, str], user: str | None) -> dict[bytes, bytes]:
    """The headers of a job's request; raises Refused for a user that cannot be one."""
    if user and (user != user.strip(" \t") or any(ord(letter) < 32 or ord(letter) == 127 for letter in user)):
        raise Refused("the user cannot be the header x-user-id: leave out control characters and spaces around it")
    given = {**identity, **({"x-user-id": user} if user else {})}
    return {name.encode(): _header_bytes(value) for name, value in given.items()}


def _header_bytes(value: str) -> bytes:
    """The bytes that came over HTTP, which is decoded as Latin-1; what only a queue can hold, as UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def question(job: Job) -> tuple[str, Mapping[str, object]]:
    """The path and the body that ask for a job."""
    if job.shape == "infer":
        return f"/v2/models/{job.model}/infer", _infer(job)
    if job.shape == "texts":
        tree: dict[str, object] = {"texts": job.texts, "text_pairs": job.text_pairs}
    else:
        tree = {"text": job.texts[0], "text_pair": job.text_pairs[0] if job.text_pairs else None}
    return "/predict", {name: value for name, value in {**tree, "top_k": job.top_k}.items() if value is not None}


def _infer(job: Job) -> Mapping[str, object]:
    columns = {"text": job.texts} if job.text_pairs is None else {"text": job.texts, "text_pair": job.text_pairs}
    tree: dict[str, object] = {"id": job.request_id or job.id}
    tree["inputs"] = [{"name": name, "datatype": "BYTES", "shape": [len(column)], "data": column}
                      for name, column in columns.items()]  # fmt: skip
    if job.outputs:
        tree["outputs"] = [{"name": name} for name in job.outputs]
    if job.top_k is not None:
        tree["parameters"] = {"top_k": job.top_k}
    return tree


def credentials(home: Path) -> dict[str, str]:
    """The header with a key: of TOKKA_KEY, or the stack's own, when its gateway wants one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"x-api-key": key} if key else own_headers(home)
