"""The interface that RabbitMQ and Kafka implement, and what a broker is told about a message."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from tokka.errors import UsageError

if TYPE_CHECKING:
    from faststream.message import StreamMessage

logger = logging.getLogger("tokka.jobs")

# retry: deliver again, and it counts towards the limit; defer: deliver again without counting.
Action = Literal["ack", "retry", "defer", "dead_letter"]
RABBITMQ, KAFKA = ("amqp", "amqps"), ("kafka",)
CONFIRM_SECONDS = 5.0
# The pause before a message is taken up again after an error of our own.
FAULT_SECONDS = 1.0
# The Unix socket in the stack's folder on which the gateway reaches the API of jobs.
SOCKET = "jobs.sock"


class Unconfirmed(Exception):
    """The broker did not confirm a message in time."""


@dataclass(frozen=True)
class Disposition:
    """What the broker is told about a message; `reply` is sent to the queue `reply_to` first."""

    action: Action
    reply: bytes = b""
    reply_to: str = ""


Handle = Callable[[bytes], Awaitable[Disposition]]
GiveUp = Callable[[bytes, str], Awaitable[Disposition]]


class Queues:
    """Names of an endpoint's queues: jobs that wait, dead letters for people, and their copies for a consumer."""

    def __init__(self, endpoint: str) -> None:
        self.jobs, self.dead, self.given_up = (f"tokka.{endpoint}.{kind}" for kind in ("jobs", "dead", "given-up"))


class Transport(ABC):
    """A connection to a broker."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    @abstractmethod
    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Register handlers, before `start`: of every job, and of every dead letter with its reason."""

    @abstractmethod
    async def start(self) -> None:
        """Connect and declare the queues; raises what the client does, TokkaError for a queue of another kind."""

    @abstractmethod
    async def stop(self) -> None:
        """Disconnect; what is not acknowledged stays with the broker."""

    @abstractmethod
    def _publish(self, body: bytes, queue: str, name: str) -> Awaitable[object]:
        """Send a message; the result comes when the broker has it."""

    async def publish(self, body: bytes, name: str) -> None:
        """Send a job; raises Unconfirmed unless the broker confirms it in time."""
        await self._send(body, self._queues.jobs, name)

    async def _send(self, body: bytes, queue: str, name: str) -> None:
        try:
            await asyncio.wait_for(self._publish(body, queue, name), CONFIRM_SECONDS)
        except Exception as error:
            raise Unconfirmed(f"{type(error).__name__}: {error}") from None

    async def _reply(self, found: Disposition, name: str) -> None:
        """Send the reply, unless it would come back as a job; the result is kept, so a lost reply is only logged."""
        if not found.reply or found.reply_to in (self._queues.jobs, self._queues.dead, self._queues.given_up):
            return
        try:
            await self._send(found.reply, found.reply_to, name)
        except Unconfirmed as error:
            logger.warning("a reply was not taken: %s", error, extra={"job": name, "reply_to": found.reply_to[:100]})


async def handle_safely(handle: Handle, body: bytes, name: str) -> Disposition:
    """What a handler says; after an error of ours, `retry`."""
    try:
        return await handle(body)
    except Exception:
        logger.exception("a message could not be handled, it is delivered again", extra={"job": name})
        await asyncio.sleep(FAULT_SECONDS)
        return Disposition("retry")


async def raw(message: "StreamMessage[object]") -> bytes:
    """FastStream's decoder of a message that is bytes."""
    return bytes(message.body)


def require_known(url: str) -> str:
    """The scheme of a broker's URL; raises UsageError when it is none that is known."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in (*RABBITMQ, *KAFKA):
        # Without the URL: it may hold a password.
        raise UsageError(
            f"the broker's URL begins with {scheme[:20]!r}, expected amqp, amqps or kafka",
            "for example TOKKA_BROKER=amqp://user:password@127.0.0.1:5672/ or kafka://127.0.0.1:9092",
        )
    return scheme
