"""Jobs over RabbitMQ: a quorum queue, publisher confirms, acknowledgement by hand, dead letters.

Who rejects with `requeue` puts the message back; the broker counts, and gives up on its own what comes back too often,
such as a message that kills every consumer. What is given up, by whomever, goes to two queues: one that nobody empties,
and one from which a consumer learns of it, so that no job waits for ever.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiormq.exceptions import ChannelPreconditionFailed
from faststream import AckPolicy
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
)

from tokka.errors import TokkaError
from tokka.jobs.broker import CONFIRM_SECONDS, GiveUp, Handle, Queues, Unconfirmed
from tokka.jobs.consumer import Told

logger = logging.getLogger("tokka.jobs")

# A consumer that dies returns whatever it held, the innocent too: the broker's own limit is far above ours, which
# counts failed tries alone.
DELIVERIES = 20
CONTENT_TYPE = "avro/binary"
FAULT_SECONDS = 1.0


class Rabbit:
    """A connection that comes back by itself.

    Args:
        url: amqp:// or amqps://.
        concurrent: messages that are held unacknowledged at once.
    """

    def __init__(self, url: str, queues: Queues, *, concurrent: int) -> None:
        self._broker = RabbitBroker(
            url, default_channel=Channel(prefetch_count=concurrent, on_return_raises=True), logger=None
        )
        self._jobs = RabbitQueue(
            queues.jobs, queue_type=QueueType.QUORUM, durable=True,
            arguments={
                "x-delivery-limit": DELIVERIES,
                "x-dead-letter-exchange": queues.dead,
                # Otherwise a dead letter is lost when the broker dies in the middle.
                "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            },
        )  # fmt: skip
        self._exchange = RabbitExchange(queues.dead, type=ExchangeType.FANOUT, durable=True)
        self._dead = RabbitQueue(queues.dead, queue_type=QueueType.QUORUM, durable=True)
        self._given_up = RabbitQueue(queues.given_up, queue_type=QueueType.QUORUM, durable=True)

    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Hand over every job, and every message that was given up; before `start`."""

        async def take(message: RabbitMessage) -> None:
            await self._take(message, handle)

        async def bury(message: RabbitMessage) -> None:
            await self._bury(message, give_up)

        for queue, taker in ((self._jobs, take), (self._given_up, bury)):
            self._broker.subscriber(queue, ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=_raw)(taker)

    async def start(self) -> None:
        """Connect and declare the queues.

        Raises:
            TokkaError: there is a queue of that name with other properties.
        """
        await self._broker.connect()
        exchange = await self._broker.declare_exchange(self._exchange)
        try:
            for queue in (self._dead, self._given_up):
                await (await self._broker.declare_queue(queue)).bind(exchange)
            await self._broker.declare_queue(self._jobs)
        except ChannelPreconditionFailed as error:
            raise TokkaError(
                f"a queue is there with other properties: {str(error)[:300]}",
                "empty it, delete it and it is made anew; `tokka down` first",
            ) from None
        await self._broker.start()

    async def publish(self, body: bytes, name: str) -> None:
        """Send a job and wait for the broker's confirmation.

        Raises:
            Unconfirmed: it does not come in time, or the queue is gone or full.
        """
        await self._send(body, self._jobs.name, name)

    async def stop(self) -> None:
        """Disconnect; what is not acknowledged stays with the broker."""
        await self._broker.stop()

    async def _take(self, message: RabbitMessage, handle: Handle) -> None:
        try:
            told = await handle(bytes(message.body))
        except Exception:
            # A fault of ours: it comes back until the broker gives it up, and is then there to be looked at.
            logger.exception(
                "a message could not be handled, it goes back to the queue", extra={"job": message.message_id}
            )
            await asyncio.sleep(FAULT_SECONDS)
            told = Told("retry")
        await self._reply(told, message.message_id)
        if told.action == "ack" or (told.action == "wait" and await self._copied(message)):
            await message.ack()
        else:
            # `reject`, since a `nack` may not count towards the broker's limit.
            await message.reject(requeue=told.action != "dead")

    async def _copied(self, message: RabbitMessage) -> bool:
        """Put a copy at the queue's end: it has not come back, so the broker does not give it up for that."""
        try:
            await self._send(bytes(message.body), self._jobs.name, message.message_id)
        except Unconfirmed:
            return False
        return True

    async def _bury(self, message: RabbitMessage, give_up: GiveUp) -> None:
        # Held until it is settled: what comes back to this queue too often would be dropped by a newer broker.
        while (told := await give_up(bytes(message.body), _why(message.raw_message.headers))).action != "ack":
            await asyncio.sleep(FAULT_SECONDS)
        await self._reply(told, message.message_id)
        await message.ack()

    async def _reply(self, told: Told, name: str) -> None:
        if not told.reply or told.reply_to in (self._jobs.name, self._dead.name, self._given_up.name):
            return
        try:
            await self._send(told.reply, told.reply_to, name)
        except Unconfirmed as error:
            # The result is kept; a queue that nobody made is no reason to ask the model again.
            more = {"job": name, "reply_to": told.reply_to[:100]}
            logger.warning("a reply was not taken: %s", error, extra=more)

    async def _send(self, body: bytes, queue: str, name: str) -> None:
        sending = self._broker.publish(body, queue=queue, persist=True, message_id=name, content_type=CONTENT_TYPE)
        try:
            await asyncio.wait_for(sending, CONFIRM_SECONDS)
        except Exception as error:
            raise Unconfirmed(f"{type(error).__name__}: {error}") from None


def _why(headers: Mapping[str, Any]) -> str:
    """The broker's reason, in its own words, from the head of a dead letter."""
    reason = str(headers.get("x-first-death-reason", "it does not say why"))
    return f"delivered {DELIVERIES} times, and never settled" if reason == "delivery_limit" else reason[:100]


async def _raw(message: Any) -> bytes:
    return bytes(message.body)
