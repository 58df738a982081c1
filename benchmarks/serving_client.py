"""Closed-loop clients that cost next to nothing: each asks, waits for its answer, and asks again.

load = run(press(RestTarget("127.0.0.1", 9001, "/predict", encode), texts, clients=16, seconds=4.0))
load.requests, load.percentile(99)
"""

import asyncio
import functools
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Ask = Callable[[str], Awaitable[None]]


@dataclass
class Load:
    """What the clients saw in `seconds`: the latency in milliseconds of every answer, and how many were no answers."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: int = 0

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which so many percent of the answers came."""
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))]


class Target(Protocol):
    """A server, as a client sees it."""

    async def connect(self) -> Ask:
        """One client's connection: a function that asks for one text and raises when it gets no answer."""
        ...


@dataclass(frozen=True)
class RestTarget:
    """A REST path; `encode` makes the body of a text; `keep` says whether the connection serves another request."""

    port: int
    path: str
    encode: Callable[[str], Any]
    host: str = "127.0.0.1"
    keep: bool = True

    async def connect(self) -> Ask:
        """Keep-alive HTTP/1.1 over a bare protocol: a full client library would need as much time as a server."""
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, self.host, self.port)

        request = functools.cache(self.request)

        async def ask(text: str) -> None:
            status, content = await connection.ask(request(text))
            if status != 200:
                raise ConnectionError(content[:200].decode(errors="replace"))

        return ask

    def request(self, text: str) -> bytes:
        """Head and body."""
        body = json.dumps(self.encode(text)).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\n"
        head += "" if self.keep else "connection: close\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time, and an answer with a content-length."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._received = transport, b""

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send, and promise (status, body)."""
        self._answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self._received = b""
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the connection was closed"))


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on uvloop: what the clients cost, the servers on the same cores lack."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def press(target: Target, texts: Sequence[str], *, clients: int, seconds: float) -> Load:
    """Let so many clients ask for so long; every client begins at another text."""
    asks = [await target.connect() for _ in range(clients)]
    load, began = Load(), time.perf_counter()
    await asyncio.gather(*(_client(ask, texts, place, began + seconds, load) for place, ask in enumerate(asks)))
    load.seconds = time.perf_counter() - began
    return load


async def _client(ask: Ask, texts: Sequence[str], place: int, until: float, load: Load) -> None:
    number = place * 37
    while (began := time.perf_counter()) < until:
        try:
            await ask(texts[number % len(texts)])
        except Exception:
            load.failures += 1
            return
        load.latencies.append((time.perf_counter() - began) * 1000)
        number += 1
