"""What to do with one message: answer it once, store the answer, and say what the broker is to be told.

The broker is told after the commit: a consumer that is killed in between gets the message again and finds the answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError

from tokka import files
from tokka.errors import TokkaError
from tokka.gateway.client import JsonObject
from tokka.jobs.broker import Action, Disposition
from tokka.jobs.job_store import IdTaken, JobStore, nobody
from tokka.jobs.messages import Job, Undecodable, decode, encode_result
from tokka.jobs.tables import StoredJob

logger = logging.getLogger("tokka.jobs")

RETRY_SECONDS = 0.2
FAULT_SECONDS = 1.0
# Starts without an end, beside the failed tries. A consumer that dies takes along every job that it held, so that this
# is far above the limit of tries.
DEATHS = 20


class Refused(Exception):
    """The endpoint will never answer this: the job is wrong."""


class Failed(Exception):
    """The endpoint serves and did not answer; a later try may succeed."""


class Unavailable(Exception):
    """Nothing serves now: this does not count as a try."""


class Consumer:
    """Handles messages, as many at once as the transport hands over; gives one up after so many failed tries.

    `ask` gets the endpoint's answer to a job; it raises Refused, Failed or Unavailable. `tell` is given the id of a job
    that is given up, and why, before the broker is told.
    """

    def __init__(
        self, store: JobStore, ask: Callable[[Job], Awaitable[JsonObject]], *, tries: int,
        tell: Callable[[str, str], None] = nobody,
    ) -> None:  # fmt: skip
        self._store, self._ask, self._tries, self._tell = store, ask, tries, tell

    async def handle(self, body: bytes) -> Disposition:
        """Answer one message and commit the outcome."""

        async def handling() -> Disposition:
            found = await self._handle(body)
            if found.action == "dead_letter":
                await asyncio.to_thread(self._tell, _name(body), "its message goes to the dead letters")
            return found

        return await _or_defer(handling())

    async def give_up(self, body: bytes, reason: str) -> Disposition:
        """Fail the job of a message that the broker has dead-lettered for a reason, unless it is settled already."""
        return await _or_defer(self._give_up(body, reason))

    async def _handle(self, body: bytes) -> Disposition:
        try:
            job = decode(body)
        except Undecodable as error:
            return await self._poison(_name(body), str(error))
        try:
            return await self._answer(job, job.digest())
        except IdTaken:
            logger.warning("a job came with another content, it is given up", extra={"job": job.id})
            return _disposition("dead_letter", job, "failed", {"error": "the id was used for another job before"})

    async def _give_up(self, body: bytes, reason: str) -> Disposition:
        try:
            job = decode(body)
            stored = await asyncio.to_thread(self._store.start, job.id, job.digest())
            if stored.state == "done":
                return Disposition("ack")
            await asyncio.to_thread(self._tell, job.id, f"given up by the broker: {reason}")
            if stored.state != "queued":
                return Disposition("ack")
            return await self._fail(job, f"given up by the broker: {reason}")
        except (Undecodable, IdTaken):
            return Disposition("ack")

    async def _poison(self, name: str, reason: str) -> Disposition:
        try:
            stored = await self._count_failure(name, "", reason)
        except IdTaken:
            return Disposition("dead_letter")
        return Disposition("dead_letter" if stored.tries >= self._tries else "retry")

    async def _answer(self, job: Job, digest: str) -> Disposition:
        stored = await asyncio.to_thread(self._store.start, job.id, digest)
        if stored.state == "done":
            return _disposition("ack", job, stored.state, stored.answer)
        if stored.starts - stored.tries > DEATHS:
            return await self._fail(job, f"given up: it came to no end {DEATHS} times", "dead_letter")
        try:
            answer = await self._ask(job)
        except Refused as error:
            stored = await asyncio.to_thread(self._store.fail, job.id, digest, str(error))
        except Failed as error:
            return await self._retry(job, digest, str(error))
        except Unavailable as error:
            logger.warning("a job waits: %s", error, extra={"job": job.id})
            await asyncio.to_thread(self._store.forget_starts, job.id)
            return Disposition("defer")
        else:
            stored = await asyncio.to_thread(self._store.complete, job.id, digest, answer)
        return _disposition("ack", job, stored.state, stored.answer)

    async def _retry(self, job: Job, digest: str, reason: str) -> Disposition:
        """Count a failed try: the message is delivered again, or given up after the last one."""
        stored = await self._count_failure(job.id, digest, reason)
        if stored.state != "done" and stored.tries < self._tries:
            return Disposition("retry")
        return _disposition("ack" if stored.state == "done" else "dead_letter", job, stored.state, stored.answer)

    async def _count_failure(self, name: str, digest: str, reason: str) -> StoredJob:
        """Count a failed try, and pause after each but the last."""
        stored = await asyncio.to_thread(self._store.count_failure, name, digest, reason, limit=self._tries)
        logger.warning("a try failed: %s", reason, extra={"job": name, "try": stored.tries, "tries": self._tries})
        if stored.tries < self._tries:
            await asyncio.sleep(RETRY_SECONDS * 2 ** (stored.tries - 1))
        return stored

    async def _fail(self, job: Job, reason: str, action: Action = "ack") -> Disposition:
        stored = await asyncio.to_thread(self._store.fail, job.id, job.digest(), reason, given_up=True)
        return _disposition(action, job, stored.state, stored.answer)


async def _or_defer(handling: Awaitable[Disposition]) -> Disposition:
    """What a handler says; `defer` while the store cannot be written, which is no fault of the message."""
    try:
        return await handling
    except (DBAPIError, OSError, TokkaError) as error:
        logger.error("what came of it cannot be kept now, the message waits: %s", getattr(error, "orig", error))
        await asyncio.sleep(FAULT_SECONDS)
        return Disposition("defer")


def _name(body: bytes) -> str:
    """The id of a message's job, or a name for bytes that are none."""
    try:
        return decode(body).id
    except Undecodable:
        return f"body-{files.digest_bytes(body)[:32]}"


def _disposition(action: Action, job: Job, state: str, answer: JsonObject) -> Disposition:
    """With the job's outcome as a reply, if the job names a queue for it."""
    if not job.reply_to:
        return Disposition(action)
    return Disposition(action, encode_result(job.id, state, answer), job.reply_to)
