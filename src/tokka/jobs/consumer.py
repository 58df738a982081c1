"""What to do with one message: answer it once, keep the answer, and say what the broker is to be told.

handler = Handler(results, asker.ask, tries=3)
told = await handler.handle(body)       # told.action: ack | retry | dead | wait

The broker is told after the commit: a consumer that is killed in between gets the message again, finds the answer
and asks nobody.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError

from tokka import files
from tokka.jobs.job_store import Kept, Results, Taken
from tokka.jobs.messages import Job, Undecodable, decode, encode_result
from tokka.jobs.predictions import predictions_of

logger = logging.getLogger("tokka.jobs")

# retry: once more, and it counts; wait: once more, and it does not, since nothing is wrong with the message.
Action = Literal["ack", "retry", "dead", "wait"]
RETRY_SECONDS = 0.2
FAULT_SECONDS = 1.0
# Starts that came to no end, beside the failed tries: a consumer that dies takes along whatever it held, the innocent
# too, so that this is far above the limit of tries.
DEATHS = 20


class Refused(Exception):
    """The endpoint will never answer this: the job's own fault."""


class Failed(Exception):
    """The endpoint lives and did not answer this; a later try may fare better."""


class Away(Exception):
    """Nothing serves now: no fault of the job's, and no try."""


@dataclass(frozen=True)
class Told:
    """What the broker is told about a message, and what is sent where before that."""

    action: Action
    reply: bytes = b""
    reply_to: str = ""


class Handler:
    """Handles messages, as many at once as the transport hands over.

    Args:
        results: where answers are kept.
        ask: gets the endpoint's answer to a job; raises Refused, Failed or Away.
        tries: failed ones after which a message is given up.
    """

    def __init__(self, results: Results, ask: Callable[[Job], Awaitable[dict[str, Any]]], *, tries: int) -> None:
        self._results = results
        self._ask = ask
        self._tries = tries

    async def handle(self, body: bytes) -> Told:
        """Answer one message and commit what it came to."""
        try:
            return await self._handle(body)
        except (DBAPIError, OSError) as error:
            return await _unkept(error)

    async def give_up(self, body: bytes, why: str) -> Told:
        """Settle a message that the broker has given up by itself, unless it is settled already.

        Args:
            why: the broker's reason.
        """
        try:
            job = decode(body)
            kept = await asyncio.to_thread(self._results.begin, job.id, digest_of(job))
            if kept.state != "queued":
                return Told("ack")
            return await self._fail(job, f"given up by the broker: {why}")
        except (Undecodable, Taken):
            return Told("ack")
        except (DBAPIError, OSError) as error:
            return await _unkept(error)

    async def _handle(self, body: bytes) -> Told:
        try:
            job = decode(body)
        except Undecodable as error:
            return await self._poison(f"body-{files.digest_bytes(body)[:32]}", str(error))
        try:
            return await self._answer(job, digest_of(job))
        except Taken:
            logger.warning("a job came with another content, it is given up", extra={"job": job.id})
            return _told(job, "dead", "failed", {"error": "the id was used for another job before"})

    async def _poison(self, name: str, reason: str) -> Told:
        kept = await asyncio.to_thread(self._results.find, name)
        if kept is not None and (kept.state != "claimed" or kept.digest):
            # A consumer was killed between giving it up and telling the broker: no bytes get better by themselves.
            return Told("dead")
        kept = await self._count(name, "", reason)
        return Told("retry" if kept.tries < self._tries else "dead")

    async def _answer(self, job: Job, digest: str) -> Told:
        kept = await asyncio.to_thread(self._results.begin, job.id, digest)
        if kept.state == "done":
            return _told(job, "ack", "done", kept.answer)
        if kept.starts - kept.tries > DEATHS:
            return await self._fail(job, f"given up: it came to no end {DEATHS} times", "dead")
        try:
            answer = await self._ask(job)
        except Refused as error:
            kept = await asyncio.to_thread(self._results.fail, job.id, digest, str(error))
            return _told(job, "ack", kept.state, kept.answer)
        except Failed as error:
            return await self._again(job, digest, str(error))
        except Away as error:
            logger.warning("a job waits: %s", error, extra={"job": job.id})
            await asyncio.to_thread(self._results.rest, job.id)
            return Told("wait")
        kept = await asyncio.to_thread(self._results.complete, job.id, digest, answer)
        return _told(job, "ack", kept.state, kept.answer)

    async def _again(self, job: Job, digest: str, reason: str) -> Told:
        """One more failed try: back to the queue after a moment, or, after the last one, given up."""
        kept = await self._count(job.id, digest, reason)
        if kept.state == "done":
            return _told(job, "ack", kept.state, kept.answer)
        return Told("retry") if kept.tries < self._tries else _told(job, "dead", kept.state, kept.answer)

    async def _count(self, name: str, digest: str, reason: str) -> Kept:
        """Count a failed try, and pause after each but the last."""
        kept = await asyncio.to_thread(self._results.count_try, name, digest, reason, limit=self._tries)
        logger.warning("a try failed: %s", reason, extra={"job": name, "try": kept.tries, "tries": self._tries})
        if kept.tries < self._tries:
            await asyncio.sleep(RETRY_SECONDS * 2 ** (kept.tries - 1))
        return kept

    async def _fail(self, job: Job, reason: str, action: Action = "ack") -> Told:
        kept: Kept = await asyncio.to_thread(
            self._results.fail, job.id, digest_of(job), reason, given_up=True
        )  # fmt: skip
        return _told(job, action, kept.state, kept.answer)


async def _unkept(error: DBAPIError | OSError) -> Told:
    logger.error("the results cannot be kept now, the message waits: %s", getattr(error, "orig", error))
    await asyncio.sleep(FAULT_SECONDS)
    return Told("wait")


def digest_of(job: Job) -> str:
    """A digest of what a job asks."""
    return files.digest_json(job.content())


def _told(job: Job, action: Action, state: str, answer: dict[str, Any]) -> Told:
    if not job.reply_to:
        return Told(action)
    predictions = predictions_of(answer) if state == "done" else []
    reply = encode_result(job.id, state, predictions, answer.get("error"))
    return Told(action, reply, job.reply_to)
