"""A worker: one process, one revision, on loopback ports that the kernel chooses.

    python -m tokka.serving.server '{"model_dir": ".tokka/models/DIGEST", "ready_file": "ready.json"}'

Verify, load, warm up, and only then listen: whoever can connect gets an answer. SIGTERM drains: no new connection
is taken, and what was taken is answered. What is imported late is imported at low priority, beside the model's files
being read.
"""

import asyncio
import gc
import importlib
import logging
import os
import socket
import sys
import time

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import json_log, process
from tokka.request_log.log import Writer
from tokka.serving.engine import Engine
from tokka.serving.options import WorkerOptions
from tokka.serving.service import Service
from tokka.settings import Settings

logger = logging.getLogger("tokka.serving")

HOST = "127.0.0.1"
DRAIN_SECONDS = 10


def main(options: WorkerOptions) -> int:
    """Serve until SIGTERM; returns the exit code."""
    began = time.perf_counter()
    process.rename("tokka-worker")
    revision = f"{options.version}@{options.digest[:12]}"
    json_log.start("worker", quoting=options.store_text, model=options.name, revision=revision)
    # What is made from here on stays: looking for garbage in it would be a tenth of the start, and of later requests.
    gc.disable()
    try:
        service = process.at_low_priority(lambda: make_service(options), import_endpoints)
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
    """Verify, load and warm up what the options name.

    Raises:
        TokkaError: the model folder is not what it should be.
    """
    settings = Settings.from_environment() if options.signed else None
    engine = Engine.load(options.model_dir, digest=options.digest, form=options.form, settings=settings)
    seconds = engine.warm_up(options.batch)
    logger.info("warm after %.2f s", seconds, extra={"digest": engine.digest, "form": engine.form})
    return Service(engine, options, Writer(options.requests, "worker") if options.requests else None)


async def serve(service: Service, began: float) -> None:
    """Listen, say so in the ready file, and answer until SIGTERM, then until what was taken is answered.

    Args:
        began: when the worker did, by `time.perf_counter`.
    """
    from tokka.serving import rest, v2_grpc

    listener = socket.create_server((HOST, 0))
    grpc_server, grpc_port = await v2_grpc.start(service, HOST)
    options, engine = service.options, service.engine
    _report(
        options, port=listener.getsockname()[1], grpc_port=grpc_port, digest=engine.digest, version=options.version,
        form=engine.form, seconds=round(time.perf_counter() - began, 3),
    )  # fmt: skip
    await rest.serve(service, listener, DRAIN_SECONDS)
    await grpc_server.stop(DRAIN_SECONDS)


def import_endpoints() -> None:
    """Import what `serve` and the model need."""
    for name in ("uvloop", "tokka.model.predictor", "onnxruntime", "tokka.serving.rest", "tokka.serving.v2_grpc"):
        importlib.import_module(name)


def _report(options: WorkerOptions, **facts: object) -> None:
    files.write_json(options.ready_file, {"pid": os.getpid(), **facts})


if __name__ == "__main__":
    sys.exit(main(WorkerOptions.model_validate_json(sys.argv[1])))
