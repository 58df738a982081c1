"""Jobs over RabbitMQ: a quorum queue, publisher confirms, acknowledgement by hand, a dead-letter queue.

Who rejects with `requeue` puts the message back; the broker counts, and gives up on its own what comes back too often,
such as a message that kills every consumer.
"""

import asyncio
import logging
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue

from tokka.serving.asynchronous.handling import Told
from tokka.serving.asynchronous.transport import CONFIRM_SECONDS, Handle, Queues, Unconfirmed

logger = logging.getLogger("tokka.serving.asynchronous")

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
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queues.dead,
                # Otherwise a dead letter is lost when the broker dies in the middle.
                "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            },
        )  # fmt: skip
        self._dead = RabbitQueue(queues.dead, queue_type=QueueType.QUORUM, durable=True)

    def consume(self, handle: Handle) -> None:
        """Hand over every job; before `start`."""

        async def take(message: RabbitMessage) -> None:
            await self._take(message, handle)

        self._broker.subscriber(self._jobs, ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=_raw)(take)

    async def start(self) -> None:
        """Connect and declare the queues."""
        await self._broker.connect()
        await self._broker.declare_queue(self._dead)
        await self._broker.declare_queue(self._jobs)
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
            logger.exception("a message could not be handled, it goes back to the queue")
            await asyncio.sleep(FAULT_SECONDS)
            told = Told("retry")
        if told.reply and told.reply_to not in (self._jobs.name, self._dead.name):
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

    async def _reply(self, told: Told, name: str) -> None:
        try:
            await self._send(told.reply, told.reply_to, name)
        except Unconfirmed as error:
            # The result is kept; a queue that nobody made is no reason to ask the model again.
            logger.warning("the reply to %s was not taken: %s", told.reply_to[:100], error)

    async def _send(self, body: bytes, queue: str, name: str) -> None:
        sending = self._broker.publish(body, queue=queue, persist=True, message_id=name, content_type=CONTENT_TYPE)
        try:
            await asyncio.wait_for(sending, CONFIRM_SECONDS)
        except Exception as error:
            raise Unconfirmed(f"{type(error).__name__}: {error}") from None


async def _raw(message: Any) -> bytes:
    return bytes(message.body)
