"""The process that takes jobs over HTTP (on a Unix socket, for the gateway alone) and consumes them from the queue.

    TOKKA_BROKER=amqp://… python -m tokka.jobs.process --name helpdesk --folder .tokka/stack

SIGTERM ends it; what it held goes back to the queue.
"""

import argparse
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
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from tokka.errors import TokkaError, UsageError
from tokka.gateway.exposure import reachable
from tokka.jobs.broker import Queues, Transport, open_transport
from tokka.jobs.consumer import Handler
from tokka.jobs.gateway_client import Asker, credentials
from tokka.jobs.http_api import Door
from tokka.jobs.job_store import Results
from tokka.processes import json_log
from tokka.settings import Settings

SOCKET, SECRET = "jobs.sock", "jobs.secret"
DAY_SECONDS, HOUR_SECONDS = 86_400.0, 3600.0
SWEEP_SECONDS = 60.0
CONNECT_SECONDS = 2.0
# A broker that is there and cannot be used waits for a person.
UNUSABLE_SECONDS = 30.0
logger = logging.getLogger("tokka.jobs")


@dataclass(frozen=True)
class Options:
    """What the process is told; without a folder there is no way in over HTTP."""

    name: str
    folder: Path | None = None
    tries: int = 3
    concurrent: int = 16
    result_days: float = 7.0
    give_up_hours: float = 24.0
    max_rows: int = 256
    max_body_bytes: int = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; returns the exit code."""
    wanted = _parser().parse_args(arguments)
    log_lines(wanted.name)
    try:
        asyncio.run(run(Options(**vars(wanted)), Settings.from_environment()))
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return 0


def log_lines(endpoint: str) -> None:
    """Log a JSON object a line; what is thrown may quote what was asked, so that its type and place are logged."""
    json_log.start("jobs", quoting=False, endpoint=endpoint)


async def run(options: Options, settings: Settings) -> None:
    """Take and consume jobs until SIGTERM or SIGINT.

    Raises:
        UsageError: there is no broker's URL, or its scheme is unknown.
    """
    if not settings.broker:
        raise UsageError("no broker is named", "set TOKKA_BROKER, or serving.asynchronous.broker in params.yaml")
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    results = Results(settings.jobs_url, options.name)
    transport = open_transport(settings.broker, Queues(options.name), concurrent=options.concurrent)
    asker = Asker(f"http://{reachable(settings.host)}:{settings.port}", functools.partial(credentials, settings.home))
    handler = Handler(results, asker.ask, tries=options.tries)
    transport.consume(handler.handle, handler.give_up)
    async with _entrance(options, settings, results, transport, asker):
        connecting = asyncio.create_task(_connect(transport))
        sweeping = asyncio.create_task(_sweep(results, options))
        await ending.wait()
        logger.info("ending: what is held goes back to the queue")
        sweeping.cancel()
        connecting.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(transport.stop(), CONNECT_SECONDS)
    await asker.close()


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


async def _sweep(results: Results, options: Options) -> None:
    """Forget what was kept long enough, and give up what waits for so long that its message must be lost."""
    why = f"given up: no answer within {options.give_up_hours:g} hours; one that comes later replaces this"
    while True:
        now = time.time()
        try:
            await asyncio.to_thread(results.forget, now - options.result_days * DAY_SECONDS)
            count = await asyncio.to_thread(results.give_up, now - options.give_up_hours * HOUR_SECONDS, why)
        except DBAPIError as error:
            logger.error("the results cannot be swept now: %s", error.orig)
        else:
            if count:
                logger.warning("jobs were given up after %g hours", options.give_up_hours, extra={"jobs": count})
        await asyncio.sleep(SWEEP_SECONDS)


@contextlib.asynccontextmanager
async def _entrance(
    options: Options, settings: Settings, results: Results, transport: Transport, asker: Asker
) -> AsyncIterator[None]:
    if options.folder is None:
        yield
        return
    import uvicorn

    door = Door(
        results, transport.publish, describe=asker.interface, model=options.name, max_rows=options.max_rows,
        max_body_bytes=options.max_body_bytes, secret=secret_of(settings.home / SECRET),
    )  # fmt: skip
    config = uvicorn.Config(door, log_config=None, access_log=False, lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([_listen(options.folder)]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listen(folder: Path) -> socket.socket:
    """A Unix socket that only its owner may use; by its bare name, since a path may hold but 107 bytes."""
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
    """The secret in a file, made at the first call; whoever is second takes the first one's."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        temporary.touch(mode=0o600)
        temporary.write_bytes(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_bytes()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokka.jobs", description="Take and consume jobs.")
    parser.add_argument("--name", required=True, help="name of the endpoint")
    parser.add_argument("--folder", type=Path, default=None, help=f"take jobs over HTTP on {SOCKET} in this folder")
    parser.add_argument("--tries", type=int, default=3, help="failed ones before a message is given up")
    parser.add_argument("--concurrent", type=int, default=16, help="messages handled at once")
    parser.add_argument("--result-days", type=float, default=7.0, help="results are kept so long")
    parser.add_argument("--give-up-hours", type=float, default=24.0, help="a job that waits longer is given up")
    parser.add_argument("--max-rows", type=int, default=256, help="more rows in one request are answered with 422")
    parser.add_argument("--max-body-bytes", type=int, default=1_000_000, help="more is answered with 413")
    return parser


if __name__ == "__main__":
    sys.exit(main())
