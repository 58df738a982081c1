"""A worker: one process, one revision; on loopback ports that the kernel chooses, or in a container on given ones.

    python -m tokka.serving.server '{"model_dir": ".tokka/models/DIGEST", "ready_file": "ready.json"}'

Verify, load, warm up, and only then listen: whoever can connect gets an answer. SIGTERM drains: no new connection
is taken, and what was taken is answered. What is imported late is imported at low priority, beside the model's files
being read.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import json_log, process
from tokka.request_log import shipping
from tokka.request_log.log import PodWriter, Writer
from tokka.serving.engine import Engine
from tokka.serving.options import WorkerOptions, in_pod
from tokka.serving.service import Service
from tokka.settings import Settings

logger = logging.getLogger("tokka.serving")

DRAIN_SECONDS = 10
# Before what copies the request log is started again.
RESTART_SECONDS = 5.0


def main(options: WorkerOptions) -> int:
    """Serve until SIGTERM; returns the exit code."""
    began = time.perf_counter()
    process.rename("tokka-worker")
    revision = f"{options.version}@{options.digest[:12]}"
    json_log.start("worker", quoting=options.store_text, model=options.name, revision=revision)
    # What is made from here on stays: looking for garbage in it would be a tenth of the start, and of later requests.
    gc.disable()
    try:
        with ThreadPoolExecutor(2, initializer=process.lower_priority) as pool:
            made, _ = pool.submit(make_service, options), pool.submit(import_endpoints).result()
            service = made.result()
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        _report(options, error=error.message, hint=error.hint)
        return error.exit_code

    gc.freeze()
    gc.enable()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(service, began))
    return 0


def make_service(options: WorkerOptions) -> Service:
    """Verify, load and warm up what the options name; raises TokkaError for a model folder that is damaged."""
    settings = Settings.from_environment() if options.signed else None
    engine = Engine.load(options.model_dir, digest=options.digest, form=options.form, settings=settings)
    seconds = engine.warm_up(options.batch)
    logger.info("warm after %.2f s", seconds, extra={"digest": engine.digest, "form": engine.form})
    return Service(engine, options, _writer(options))


def _writer(options: WorkerOptions) -> Writer | None:
    if options.requests is None:
        return None
    return PodWriter(options.requests, socket.gethostname()) if options.archive else Writer(options.requests, "worker")


async def serve(service: Service, began: float) -> None:
    """Listen, say so in the ready file with the seconds since `began`, and answer until SIGTERM and a drain."""
    from tokka.serving import rest, v2_grpc

    options, engine = service.options, service.engine
    listener = socket.create_server((options.host, options.port))
    grpc_server, grpc_port = await v2_grpc.start(service, options.host, options.grpc_port)
    _report(
        options, port=listener.getsockname()[1], grpc_port=grpc_port, digest=engine.digest, version=options.version,
        form=engine.form, seconds=round(time.perf_counter() - began, 3),
    )  # fmt: skip
    async with shipping_beside(options):
        await rest.serve(service, listener, DRAIN_SECONDS)
        await grpc_server.stop(DRAIN_SECONDS)
        service.close()


@contextlib.asynccontextmanager
async def shipping_beside(options: WorkerOptions) -> AsyncIterator[None]:
    """Have a pod's request log copied by a process beside this one; in the end it has some seconds for the rest."""
    if options.requests is None or not options.archive:
        yield
        return
    task = asyncio.ensure_future(_keep_shipping(shipping.command(options.requests, options.archive)))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_shipping(command: Sequence[str]) -> None:
    """Start it again when it ends; cancelled, have it end, and wait for that."""
    while True:
        child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            # It reads nothing, and takes the end of its input for the end.
            if child.stdin is not None:
                child.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), shipping.LAST_S + 1)
            if child.returncode is None:
                child.kill()
                await child.wait()
            raise
        logger.warning("what copies the request log has ended with %d, it is started again", code)
        await asyncio.sleep(RESTART_SECONDS)


def import_endpoints() -> None:
    """Import what `serve` and the model need."""
    for name in ("uvloop", "tokka.model.predictor", "onnxruntime", "tokka.serving.rest", "tokka.serving.v2_grpc"):
        importlib.import_module(name)


def _report(options: WorkerOptions, **facts: object) -> None:
    if options.ready_file is not None:
        files.write_json(options.ready_file, {"pid": os.getpid(), **facts})


def start(argument: str) -> int:
    """Serve what the one argument says, and in a pod the environment; the exit code."""
    try:
        options = in_pod(WorkerOptions.model_validate_json(argument), os.environ)
    except TokkaError as error:
        json_log.start("worker")
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return main(options)


if __name__ == "__main__":
    sys.exit(start(sys.argv[1]))
