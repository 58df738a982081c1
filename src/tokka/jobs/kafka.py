"""Jobs over Kafka: acknowledged by every replica in sync, offsets committed by hand, a topic for dead letters.

Kafka cannot put a message back: it is tried again here, and its partition waits.
"""

import asyncio
import logging
from collections.abc import Awaitable
from urllib.parse import urlsplit

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from tokka.jobs import broker
from tokka.jobs.broker import GiveUp, Handle, Queues, Transport, Unconfirmed, handle_safely, raw

logger = logging.getLogger("tokka.jobs")

# A job may wait long for a model; a member that is silent for longer loses its partitions to another.
POLL_MS = 3_600_000


class KafkaTransport(Transport):
    """A producer and a member of the endpoint's group; in the URL several hosts are separated by commas."""

    def __init__(self, url: str, queues: Queues) -> None:
        super().__init__(queues)
        self.broker = KafkaBroker(urlsplit(url).netloc.split(","), acks="all", enable_idempotence=True, logger=None)

    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Register the handler of jobs; Kafka gives no message up, so that `give_up` is never called."""

        async def take(message: KafkaMessage) -> None:
            body, name = bytes(message.body), message.message_id
            while (found := await handle_safely(handle, body, name)).action in ("retry", "defer"):
                await asyncio.sleep(broker.FAULT_SECONDS)
            await self._reply(found, name)
            if found.action == "dead_letter":
                await self._bury(body, name)
            await message.ack()

        self.broker.subscriber(
            self._queues.jobs, group_id=self._queues.jobs, auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=raw, max_poll_interval_ms=POLL_MS,
        )(take)  # fmt: skip

    async def start(self) -> None:
        """Connect."""
        await self.broker.start()

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        await self.broker.stop()

    def _publish(self, body: bytes, queue: str, name: str) -> Awaitable[object]:
        return self.broker.publish(body, topic=queue, key=name.encode())

    async def _bury(self, body: bytes, name: str) -> None:
        """Publish a dead letter, however long that takes: the next message's commit would pass over this one."""
        while True:
            try:
                return await self._send(body, self._queues.dead, name)
            except Unconfirmed as error:
                logger.warning("a dead letter was not taken, it is sent again: %s", error, extra={"job": name})
                await asyncio.sleep(broker.FAULT_SECONDS)
