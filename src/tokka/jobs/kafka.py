"""Jobs over Kafka: acknowledged by every replica in sync, offsets committed by hand, a topic for dead letters.

Kafka has no way back to the queue: a message is tried again here, and its partition waits.
"""

import asyncio
import logging
from typing import Any
from urllib.parse import urlsplit

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from tokka.jobs.broker import CONFIRM_SECONDS, GiveUp, Handle, Queues, Unconfirmed
from tokka.jobs.consumer import Told

logger = logging.getLogger("tokka.jobs")

FAULT_SECONDS = 1.0
# A job may wait long for a model; who is silent for longer loses its partitions, and the job comes again elsewhere.
POLL_MS = 3_600_000


class Kafka:
    """A producer and a member of the endpoint's consumer group.

    Args:
        url: kafka://HOST:PORT, several hosts separated by commas.
    """

    def __init__(self, url: str, queues: Queues) -> None:
        self._queues = queues
        self.broker = KafkaBroker(urlsplit(url).netloc.split(","), acks="all", enable_idempotence=True, logger=None)

    def consume(self, handle: Handle, give_up: GiveUp) -> None:
        """Hand over every job; before `start`. Kafka gives nothing up, so that `give_up` is never called."""

        async def take(message: KafkaMessage) -> None:
            await self._take(message, handle)

        self.broker.subscriber(
            self._queues.jobs, group_id=self._queues.jobs, auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=_raw, max_poll_interval_ms=POLL_MS,
        )(take)  # fmt: skip

    async def start(self) -> None:
        """Connect."""
        await self.broker.start()

    async def publish(self, body: bytes, name: str) -> None:
        """Send a job and wait until every replica in sync has it.

        Raises:
            Unconfirmed: that does not happen in time.
        """
        await self._send(body, self._queues.jobs, name)

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        await self.broker.stop()

    async def _take(self, message: KafkaMessage, handle: Handle) -> None:
        body = bytes(message.body)
        while (told := await self._handle(body, handle)).action in ("retry", "wait"):
            await asyncio.sleep(FAULT_SECONDS)
        if told.reply and told.reply_to not in (self._queues.jobs, self._queues.dead):
            try:
                await self._send(told.reply, told.reply_to, message.message_id)
            except Unconfirmed as error:
                more = {"job": message.message_id, "reply_to": told.reply_to[:100]}
                logger.warning("a reply was not taken: %s", error, extra=more)
        if told.action == "dead":
            await self._bury(body, message.message_id)
        await message.ack()

    async def _bury(self, body: bytes, name: str) -> None:
        """Keep a dead letter, however long that takes: the next message's commit would pass over this one."""
        while True:
            try:
                await self._send(body, self._queues.dead, name)
            except Unconfirmed as error:
                logger.warning("a dead letter was not taken, it is sent again: %s", error, extra={"job": name})
                await asyncio.sleep(FAULT_SECONDS)
            else:
                return

    async def _handle(self, body: bytes, handle: Handle) -> Told:
        try:
            return await handle(body)
        except Exception:
            logger.exception("a message could not be handled, it is tried again")
            return Told("retry")

    async def _send(self, body: bytes, topic: str, name: str) -> None:
        try:
            await asyncio.wait_for(self.broker.publish(body, topic=topic, key=name.encode()), CONFIRM_SECONDS)
        except Exception as error:
            raise Unconfirmed(f"{type(error).__name__}: {error}") from None


async def _raw(message: Any) -> bytes:
    return bytes(message.body)
