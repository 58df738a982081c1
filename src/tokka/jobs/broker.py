"""Which broker carries the messages: RabbitMQ or Kafka, by the scheme of its URL.

transport = open_transport("amqp://127.0.0.1", Queues("helpdesk"), concurrent=16)
transport.consume(handler.handle); await transport.start(); await transport.publish(body, job.id)
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from tokka.errors import UsageError
from tokka.jobs.consumer import Told

Handle = Callable[[bytes], Awaitable[Told]]
GiveUp = Callable[[bytes, str], Awaitable[Told]]
RABBIT, KAFKA = ("amqp", "amqps"), ("kafka",)
# A publisher waits so long for the broker to confirm.
CONFIRM_SECONDS = 5.0


class Unconfirmed(Exception):
    """The broker did not confirm a message."""


@dataclass(frozen=True)
class Queues:
    """Names of the queues (or topics) of one endpoint."""

    endpoint: str

    @property
    def jobs(self) -> str:
        """Where jobs wait."""
        return f"tokka.{self.endpoint}.jobs"

    @property
    def dead(self) -> str:
        """Where messages lie that were given up, for people to look at."""
        return f"tokka.{self.endpoint}.dead"

    @property
    def given_up(self) -> str:
        """Where a copy of each waits for a consumer, which settles what the broker gave up by itself."""
        return f"tokka.{self.endpoint}.given-up"


class Transport(Protocol):
    """A connection to a broker."""

    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Hand over every job, and every message that the broker gave up, with its reason; before `start`."""

    async def start(self) -> None:
        """Connect and declare the queues; raises whatever the broker's client raises when there is none.

        Raises:
            TokkaError: the broker is there, and cannot be used as it is.
        """

    async def publish(self, body: bytes, name: str) -> None:
        """Send a job and wait until the broker has it.

        Raises:
            Unconfirmed: it does not say so in time.
        """

    async def stop(self) -> None:
        """Take nothing more, and disconnect; what is not acknowledged stays with the broker."""


def check(url: str) -> str:
    """The scheme of a broker's URL.

    Raises:
        UsageError: it is none that is known.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in (*RABBIT, *KAFKA):
        # Without the URL: it may hold a password.
        raise UsageError(
            f"the broker's URL begins with {scheme[:20]!r}, expected amqp, amqps or kafka",
            "for example TOKKA_BROKER=amqp://user:password@127.0.0.1:5672/ or kafka://127.0.0.1:9092",
        )
    return scheme


def open_transport(url: str, queues: Queues, *, concurrent: int) -> Transport:
    """The transport for a URL, not connected yet.

    Args:
        concurrent: messages that are handled at once.

    Raises:
        UsageError: the URL's scheme is unknown.
    """
    if check(url) in KAFKA:
        from tokka.jobs.kafka import Kafka

        return Kafka(url, queues)
    from tokka.jobs.rabbitmq import Rabbit

    return Rabbit(url, queues, concurrent=concurrent)
