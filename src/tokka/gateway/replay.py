"""Replayed traffic: labelled rows sent through the gateway, marked as replayed, each followed by its true label."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Replayed:
    """The outcome of one row: HTTP status (0 when nothing answered), the answer, who gave it, and its latency."""

    status: int
    label: str = ""
    value: float | None = None
    score: float | None = None
    version: str = ""
    canary: bool = False
    latency_ms: float = 0.0
    prediction_id: str = ""
    target: object = None
    error: str = ""


def replay(
    rows: Iterable[Mapping[str, object]], endpoint: str, *, rate: float | None = None, concurrency: int = 8,
    feedback: bool = True, headers: Mapping[str, str] | None = None,
) -> list[Replayed]:  # fmt: skip
    """Send rows, at most `concurrency` at a time and `rate` a second, and return one result for each, in order.

    A row has a `text`, and perhaps a `text_pair`, `target` and `user`; with `feedback` its target is sent right after
    it. `headers` are more of them, such as a credential.
    """
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    client = httpx.AsyncClient(
        base_url=endpoint, timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False,
        headers={**(headers or {}), "x-tokka-replayed": "1"},
    )  # fmt: skip
    return asyncio.run(_replay(list(rows), client, rate, concurrency, feedback))


async def _replay(
    rows: list[Mapping[str, object]], client: httpx.AsyncClient, rate: float | None, concurrency: int, feedback: bool
) -> list[Replayed]:
    results = [Replayed(0)] * len(rows)
    work = iter(enumerate(rows))
    began = time.monotonic()

    async def send() -> None:
        for number, row in work:
            if rate is not None:
                await asyncio.sleep(began + number / rate - time.monotonic())
            results[number] = await _ask(client, row)
            if feedback and results[number].status == 200 and row.get("target") is not None:
                await _give_feedback(client, results[number])

    async with client:
        await asyncio.gather(*(send() for _ in range(min(concurrency, len(rows)))))
    return results


async def _ask(client: httpx.AsyncClient, row: Mapping[str, object]) -> Replayed:
    body = {name: row[name] for name in ("text", "text_pair") if row.get(name) is not None}
    headers = {"x-user-id": str(row["user"])} if row.get("user") else {}
    target = row.get("target")
    began = time.perf_counter()
    try:
        response = await client.post("/predict", json=body, headers=headers)
        latency = (time.perf_counter() - began) * 1000
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        return Replayed(0, target=target, error=str(error) or type(error).__name__)
    if response.status_code != 200:
        return Replayed(response.status_code, latency_ms=latency, target=target, error=str(answer.get("error", "")))
    return Replayed(
        status=200, label=answer.get("label", ""), value=answer.get("value"), score=answer.get("score"),
        version=answer["model_version"], canary=answer["canary"], latency_ms=latency,
        prediction_id=answer["prediction_id"], target=target,
    )  # fmt: skip


async def _give_feedback(client: httpx.AsyncClient, result: Replayed) -> None:
    truth = {"value": float(str(result.target))} if result.value is not None else {"label": str(result.target)}
    try:
        await client.post("/feedback", json={"prediction_id": result.prediction_id, **truth})
    except httpx.HTTPError:
        # A lost label is a missing label, not a failed request.
        return
