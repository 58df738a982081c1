"""Jobs over RabbitMQ: a quorum queue, publisher confirms, acknowledgement by hand, dead letters.

`reject` with `requeue` returns a message to the queue; the broker counts deliveries and dead-letters what comes back
too often, such as a message that kills every consumer. Dead letters go to two queues: one for people, which nothing
empties, and one from which a consumer marks the job as failed.
"""

import asyncio
from collections.abc import Awaitable, Mapping

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
)  # fmt: skip

from tokka.errors import TokkaError
from tokka.jobs.broker import FAULT_SECONDS, GiveUp, Handle, Queues, Transport, Unconfirmed, handle_safely, raw

# A consumer that dies returns every message that it held, so the broker's limit is far above ours of failed tries.
DELIVERIES = 20
CONTENT_TYPE = "avro/binary"


class RabbitMQTransport(Transport):
    """A connection that is restored by itself; `concurrent` messages are held unacknowledged at once."""

    def __init__(self, url: str, queues: Queues, *, concurrent: int) -> None:
        super().__init__(queues)
        channel = Channel(prefetch_count=concurrent, on_return_raises=True)
        self._broker = RabbitBroker(url, default_channel=channel, logger=None)
        self._exchange = RabbitExchange(queues.dead, type=ExchangeType.FANOUT, durable=True)
        self._jobs = RabbitQueue(
            queues.jobs, queue_type=QueueType.QUORUM, durable=True,
            arguments={
                "x-delivery-limit": DELIVERIES,
                "x-dead-letter-exchange": queues.dead,
                # Otherwise a dead letter is lost when the broker dies between the two queues.
                "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            },
        )  # fmt: skip
        self._dead_letters = [
            RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True) for name in (queues.dead, queues.given_up)
        ]

    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Register the handlers of jobs and of dead letters, before `start`."""

        async def take(message: RabbitMessage) -> None:
            found = await handle_safely(handle, bytes(message.body), message.message_id)
            await self._reply(found, message.message_id)
            if found.action == "ack" or (found.action == "defer" and await self._requeue_copy(message)):
                await message.ack()
            else:
                # `reject`, since a `nack` may not count towards the broker's limit.
                await message.reject(requeue=found.action != "dead_letter")

        async def settle(message: RabbitMessage) -> None:
            # Held until it is settled: a newer broker would drop what is returned to this queue too often.
            reason = _reason(message.raw_message.headers)
            while (found := await give_up(bytes(message.body), reason)).action != "ack":
                await asyncio.sleep(FAULT_SECONDS)
            await self._reply(found, message.message_id)
            await message.ack()

        for queue, taker in ((self._jobs, take), (self._dead_letters[1], settle)):
            self._broker.subscriber(queue, ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=raw)(taker)

    async def start(self) -> None:
        """Connect and declare the queues; raises TokkaError when one is there with other properties."""
        await self._broker.connect()
        exchange = await self._broker.declare_exchange(self._exchange)
        try:
            for queue in self._dead_letters:
                await (await self._broker.declare_queue(queue)).bind(exchange)
            await self._broker.declare_queue(self._jobs)
        except ChannelPreconditionFailed as error:
            raise TokkaError(
                f"a queue is there with other properties: {str(error)[:300]}",
                "empty it, delete it and it is made anew; `tokka down` first",
            ) from None
        await self._broker.start()

    async def stop(self) -> None:
        """Disconnect; what is not acknowledged stays with the broker."""
        await self._broker.stop()

    def _publish(self, body: bytes, queue: str, name: str) -> Awaitable[object]:
        return self._broker.publish(body, queue=queue, persist=True, message_id=name, content_type=CONTENT_TYPE)

    async def _requeue_copy(self, message: RabbitMessage) -> bool:
        """Publish a copy, whose deliveries the broker counts from zero."""
        try:
            await self.publish(bytes(message.body), message.message_id)
        except Unconfirmed:
            return False
        return True


def _reason(headers: Mapping[str, object]) -> str:
    """Why the broker dead-lettered a message, from its headers."""
    reason = str(headers.get("x-first-death-reason", "it does not say why"))
    return f"delivered {DELIVERIES} times, and never settled" if reason == "delivery_limit" else reason[:100]
