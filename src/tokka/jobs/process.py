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
from collections.abc import AsyncIterator, Sequence
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
from tokka.params import Params
from tokka.processes import json_log
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
    log_lines(params.registry.model)
    try:
        asyncio.run(run(params, Settings.from_environment(), folder))
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return 0


def log_lines(endpoint: str) -> None:
    """Log a JSON object a line; the message of an exception may quote a request, so its type and place are logged."""
    json_log.start("jobs", quoting=False, endpoint=endpoint)


async def run(params: Params, settings: Settings, folder: Path | None = None) -> None:
    """Take and consume jobs until SIGTERM or SIGINT.

    Args:
        folder: takes the socket of the HTTP API; without one jobs are only consumed.

    Raises:
        UsageError: there is no broker's URL, or its scheme is unknown.
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
    consumer = Consumer(store, gateway.ask, tries=wanted.tries)
    transport.consume(consumer.handle, consumer.give_up)
    async with contextlib.AsyncExitStack() as running:
        if folder is not None:
            secret = secret_of(settings.home / SECRET)
            api = JobsApi(
                store, transport.publish, describe=gateway.interface, model=name, limits=params.serving, secret=secret
            )
            await running.enter_async_context(_serve(api, folder))
        tasks = [asyncio.create_task(_connect(transport)), asyncio.create_task(_sweep(store, wanted))]
        await ending.wait()
        logger.info("ending: what is held goes back to the queue")
        for task in tasks:
            task.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(transport.stop(), CONNECT_SECONDS)
    await gateway.close()


def open_transport(url: str, queues: Queues, *, concurrent: int) -> Transport:
    """The transport for a broker's URL, not connected yet.

    Args:
        concurrent: messages that are handled at once.

    Raises:
        UsageError: the URL's scheme is unknown.
    """
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


async def _sweep(store: JobStore, wanted: Asynchronous) -> None:
    """Delete results that were kept long enough, and fail jobs that wait so long that their message must be lost."""
    why = f"given up: no answer within {wanted.give_up_hours:g} hours; one that comes later replaces this"
    while True:
        now = time.time()
        try:
            await asyncio.to_thread(store.purge, now - wanted.result_days * DAY_SECONDS)
            count = await asyncio.to_thread(store.expire, now - wanted.give_up_hours * HOUR_SECONDS, why)
        except DBAPIError as error:
            logger.error("the results cannot be swept now: %s", error.orig)
        else:
            if count:
                logger.warning("jobs were given up after %g hours", wanted.give_up_hours, extra={"jobs": count})
        await asyncio.sleep(SWEEP_SECONDS)


@contextlib.asynccontextmanager
async def _serve(api: JobsApi, folder: Path) -> AsyncIterator[None]:
    """Answer on a Unix socket in a folder meanwhile."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(api, log_config=None, access_log=False, lifespan="off", server_header=False)
    )  # fmt: skip
    serving = asyncio.create_task(server._serve([_listen(folder)]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


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
