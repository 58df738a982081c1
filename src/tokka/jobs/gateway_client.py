"""A job's question to the gateway: the same way in as everybody's, so that split, canary and request log hold.

asker = Asker("http://127.0.0.1:8080", lambda: credentials(home))
answer = await asker.ask(job)
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tokka.gateway.api_keys import own_headers
from tokka.gateway.client import reason
from tokka.jobs.consumer import Away, Failed, Refused
from tokka.jobs.job_request import Interface
from tokka.jobs.messages import Job

# While nothing serves a job waits here for so long, then on the queue: a broker takes back what is held too long.
AWAY_SECONDS = 600.0
PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 60.0
# An API key with the scope "predict", for a consumer beside another machine's gateway.
KEY_VARIABLE = "TOKKA_KEY"
# A client's mistakes. Those of the consumer (a key that expired) and a full house are no fault of the job's: it waits.
REFUSALS = (400, 404, 405, 413, 415, 422, 431)
WAITS = (401, 403, 408, 429)
LONGEST_PAUSE_SECONDS = 30.0
# Who asks what the model takes waits no longer than this: a request is accepted without it.
FRESH_SECONDS, DESCRIBE_SECONDS = 5.0, 1.0
# The gateway's word for a 503 that was a 502 or a 504 inside.
BROKE_OFF = "x-tokka-failed"


class Busy(Failed):
    """The endpoint asks to come back later: seconds from now."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Asker:
    """Asks an endpoint, and waits while nothing serves there.

    Args:
        endpoint: the gateway's URL.
        identify: gives the headers with which the gateway lets the question in; asked each time, since keys change.
        away_seconds: how long to wait for a gateway or a model that is not there.
    """

    def __init__(
        self, endpoint: str, identify: Callable[[], Mapping[str, str]], *, away_seconds: float = AWAY_SECONDS
    ) -> None:
        self._client = httpx.AsyncClient(base_url=endpoint, timeout=TIMEOUT_SECONDS, trust_env=False)
        self._identify = identify
        self._away_seconds = away_seconds
        self._interface: tuple[float, Interface | None] | None = None

    async def ask(self, job: Job) -> dict[str, Any]:
        """The endpoint's answer.

        Raises:
            Refused: the endpoint says that the job is wrong.
            Failed: the endpoint serves, and yet did not answer.
            Away: nothing served all the time, or nothing that had time for this or let it in.
        """
        deadline = time.monotonic() + self._away_seconds
        while True:
            try:
                return await self._once(job)
            except Busy as error:
                why, pause = str(error), error.seconds
            except Failed as error:
                if await self._serves():
                    raise
                why, pause = f"nothing serves: {error}", PAUSE_SECONDS
            if time.monotonic() + pause >= deadline:
                raise Away(f"{self._client.base_url} for {self._away_seconds:.0f} s: {why}")
            await asyncio.sleep(pause)

    async def interface(self, model: str) -> Interface | None:
        """What the model takes and gives, not older than a few seconds; None when nobody says so."""
        known = self._interface
        if known is None or time.monotonic() - known[0] > FRESH_SECONDS:
            self._interface = known = (time.monotonic(), await self._describe(model))
        return known[1]

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def _once(self, job: Job) -> dict[str, Any]:
        path, tree = question(job)
        headers = heads(self._identify(), job.user)
        try:
            response = await self._client.post(path, json=tree, headers=headers)
        except httpx.LocalProtocolError as error:
            # The user can be a header: what cannot is the consumer's credential.
            raise Away(f"the question cannot be sent: see {KEY_VARIABLE} ({error})") from None
        except httpx.HTTPError as error:
            raise Failed(f"no answer ({type(error).__name__})") from None
        if response.status_code in REFUSALS:
            raise Refused(reason(response))
        if _is_busy(response):
            raise Busy(f"answered {response.status_code}: {reason(response)}", _pause(response))
        if response.status_code != 200:
            raise Failed(f"answered {response.status_code}: {reason(response)}")
        try:
            return dict(response.json())
        except (ValueError, TypeError):
            raise Failed("the answer is no JSON object") from None

    async def _describe(self, model: str) -> Interface | None:
        try:
            response = await self._client.get(
                f"/v2/models/{model}", headers=dict(self._identify()), timeout=DESCRIBE_SECONDS
            )
            tree = response.json()
            return Interface(*(tuple(str(tensor["name"]) for tensor in tree[side]) for side in ("inputs", "outputs")))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    async def _serves(self) -> bool:
        try:
            return (await self._client.get("/health")).status_code == 200
        except httpx.HTTPError:
            return False


def _is_busy(response: httpx.Response) -> bool:
    """Whether it is no try: what the gateway gave up asking for is one, or a job that kills workers would go on."""
    if response.status_code == 503:
        return "retry-after" in response.headers and BROKE_OFF not in response.headers
    return response.status_code in WAITS


def _pause(response: httpx.Response) -> float:
    """Seconds until the next attempt, as the answer wants it, within bounds."""
    wanted = response.headers.get("retry-after", "")
    return min(max(float(wanted), PAUSE_SECONDS), LONGEST_PAUSE_SECONDS) if wanted.isdecimal() else PAUSE_SECONDS


def heads(identity: Mapping[str, str], user: str | None) -> dict[bytes, bytes]:
    """The headers of a question.

    Raises:
        Refused: the user cannot be a header.
    """
    if user and (user != user.strip(" \t") or any(ord(letter) < 32 or ord(letter) == 127 for letter in user)):
        raise Refused("the user cannot be the header x-user-id: leave out control characters and spaces around it")
    given = {**identity, **({"x-user-id": user} if user else {})}
    return {name.encode(): _header_bytes(value) for name, value in given.items()}


def _header_bytes(value: str) -> bytes:
    """As they came through the door, which decodes headers as Latin-1; what a queue alone can hold, as UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def question(job: Job) -> tuple[str, dict[str, Any]]:
    """The path and the body that ask for a job."""
    if job.shape == "infer":
        return f"/v2/models/{job.model}/infer", _infer(job)
    several = job.shape == "texts"
    tree: dict[str, Any] = {"texts": job.texts} if several else {"text": job.texts[0]}
    if job.text_pairs:
        tree |= {"text_pairs": job.text_pairs} if several else {"text_pair": job.text_pairs[0]}
    return "/predict", {**tree, **({"top_k": job.top_k} if job.top_k is not None else {})}


def _infer(job: Job) -> dict[str, Any]:
    columns = {"text": job.texts, **({"text_pair": job.text_pairs} if job.text_pairs is not None else {})}
    tensors = [{"name": name, "datatype": "BYTES", "shape": [len(column)], "data": column}
               for name, column in columns.items()]  # fmt: skip
    wanted = {"outputs": [{"name": name} for name in job.outputs]} if job.outputs else {}
    more = {"parameters": {"top_k": job.top_k}} if job.top_k is not None else {}
    return {"id": job.request_id or job.id, "inputs": tensors, **wanted, **more}


def credentials(home: Path) -> dict[str, str]:
    """The header with a key: of TOKKA_KEY, or the stack's own, when its gateway wants one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"x-api-key": key} if key else own_headers(home)
