"""The process that takes jobs over HTTP (on a Unix socket, for the gateway alone) and consumes them from the queue.

    TOKKA_BROKER=amqp://… python -m tokka.jobs.process .tokka/stack

Its options are the stack's params.json in that folder. SIGTERM ends it; the jobs that it held go back to the queue.
"""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.gateway.exposure import endpoint
from tokka.jobs.broker import KAFKA, SOCKET, Queues, Transport, require_known
from tokka.jobs.consumer import Consumer
from tokka.jobs.gateway_client import GatewayClient, credentials
from tokka.jobs.http_api import JobsApi
from tokka.jobs.job_store import JobStore
from tokka.notifications import Event, emit
from tokka.params import Params
from tokka.processes import json_log, web_server
from tokka.sections_serving import Asynchronous
from tokka.settings import Settings

SECRET = "jobs.secret"
DAY_SECONDS, HOUR_SECONDS = 86_400.0, 3600.0
SWEEP_SECONDS = 60.0
CONNECT_SECONDS = 2.0
# A broker with queues of other properties waits for a person.
UNUSABLE_SECONDS = 30.0
logger = logging.getLogger("tokka.jobs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; returns the exit code."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0]).resolve()
    params = Params.model_validate(files.read_json(folder / "params.json"))
    json_log.start("jobs", quoting=False, endpoint=params.registry.model)
    try:
        asyncio.run(run(params, Settings.from_environment(), folder))
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return 0


async def run(params: Params, settings: Settings, folder: Path | None = None) -> None:
    """Take jobs, on a socket in `folder` (without one they are only consumed), and consume them until SIGTERM.

    Raises UsageError when there is no broker's URL, or its scheme is unknown.
    """
    if not settings.broker:
        raise UsageError("no broker is named", "set TOKKA_BROKER, or serving.asynchronous.broker in params.yaml")
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    name, wanted = params.registry.model, params.serving.asynchronous
    store = JobStore(settings.jobs_url, name)
    transport = open_transport(settings.broker, Queues(name), concurrent=wanted.concurrent)
    gateway = GatewayClient(endpoint(settings), functools.partial(credentials, settings.home))
    told = DeadLetters(settings.record_url, name)
    consumer = Consumer(store, gateway.ask, tries=wanted.tries, tell=told.tell)
    transport.consume(consumer.handle, consumer.give_up)
    async with asyncio.TaskGroup() as running:
        tasks = [running.create_task(_connect(transport)), running.create_task(_sweep(store, wanted, told))]
        server = None
        if folder is not None:
            server = web_server.bare(JobsApi(
                store, transport.publish, describe=gateway.interface, model=name, limits=params.serving,
                secret=secret_of(settings.home / SECRET),
            ))  # fmt: skip
            running.create_task(server._serve([_listen(folder)]))
        await ending.wait()
        logger.info("ending: what is held goes back to the queue")
        for task in tasks:
            task.cancel()
        if server is not None:
            server.end()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(transport.stop(), CONNECT_SECONDS)
    await gateway.close()


class DeadLetters:
    """Tells people that jobs are given up, once an hour at most: an outage may cost thousands of them."""

    def __init__(self, record_url: str, endpoint: str) -> None:
        self._url, self._endpoint, self._hour = record_url, endpoint, ""

    def tell(self, job: str, reason: str) -> None:
        """The first of an hour (UTC) is told, by whichever consumer; TokkaError when the record does not answer."""
        hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
        if hour == self._hour:
            return
        what = f"Jobs are given up; the first in this hour (UTC) is {job}."
        where = f"`/metrics` counts them (tokka_jobs_total); tokka.{self._endpoint}.dead has the messages"
        emit(Event("dead_letters", self._endpoint, hour, what, (reason, where), details={"job": job}), self._url)
        self._hour = hour


def open_transport(url: str, queues: Queues, *, concurrent: int) -> Transport:
    """The transport for a broker's URL, not connected yet; raises UsageError for an unknown scheme."""
    if require_known(url) in KAFKA:
        from tokka.jobs.kafka import KafkaTransport

        return KafkaTransport(url, queues)
    from tokka.jobs.rabbitmq import RabbitMQTransport

    return RabbitMQTransport(url, queues, concurrent=concurrent)


async def _connect(transport: Transport) -> None:
    """Connect, however long it takes: until then requests are answered with 503."""
    while True:
        try:
            await transport.start()
            logger.info("jobs are consumed")
            return
        except TokkaError as error:
            logger.error(error.message, extra={"hint": error.hint})
            await asyncio.sleep(UNUSABLE_SECONDS)
        except Exception as error:
            # Without the URL: it may hold a password.
            logger.warning("the broker does not answer: %s", type(error).__name__)
            await asyncio.sleep(CONNECT_SECONDS)


async def _sweep(store: JobStore, wanted: Asynchronous, told: DeadLetters) -> None:
    """Delete results that were kept long enough, and fail jobs that wait so long that their message must be lost."""
    why = f"given up: no answer within {wanted.give_up_hours:g} hours; one that comes later replaces this"
    while True:
        now = time.time()
        try:
            await asyncio.to_thread(store.purge, now - wanted.result_days * DAY_SECONDS)
            count = await asyncio.to_thread(store.expire, now - wanted.give_up_hours * HOUR_SECONDS, why, told.tell)
        except (DBAPIError, TokkaError) as error:
            logger.error("the results cannot be swept now: %s", getattr(error, "orig", error))
        else:
            if count:
                logger.warning("jobs were given up after %g hours", wanted.give_up_hours, extra={"jobs": count})
        await asyncio.sleep(SWEEP_SECONDS)


def _listen(folder: Path) -> socket.socket:
    """A Unix socket that only its owner may use; bound by its bare name, since a path may have 107 bytes at most."""
    os.chdir(folder)
    Path(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(SOCKET)
    finally:
        os.umask(mask)
    return listener


def secret_of(path: Path) -> bytes:
    """The 32 bytes in a file, made at the first call."""
    with files.locked(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            files.write_bytes(path, secrets.token_bytes(32), mode=0o600)
    return path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
