"""A worker: one process, one revision, on loopback ports that the kernel chooses.

    python -m tokka.serving.server '{"model_dir": ".tokka/models/DIGEST", "ready_file": "ready.json"}'

Verify, load, warm up, and only then listen: whoever can connect gets an answer. SIGTERM drains: no new connection
is taken, and what was taken is answered.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import json_log, process
from tokka.request_log.log import Writer
from tokka.serving.engine import Engine
from tokka.serving.kserve_import import load_transport
from tokka.serving.options import WorkerOptions
from tokka.serving.service import Service
from tokka.settings import Settings

logger = logging.getLogger("tokka.serving")

DRAIN_SECONDS = 10


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; returns the exit code."""
    began = time.perf_counter()
    options = WorkerOptions.model_validate_json(arguments[0])
    process.rename("tokka-worker")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    revision = f"{options.version}@{options.digest[:12]}"
    json_log.start("worker", quoting=options.store_text, model=options.name, revision=revision)
    try:
        service = process.at_low_priority(lambda: make_service(options))
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        _report(options, {"error": error.message, "hint": error.hint})
        return error.exit_code
    listener = socket.create_server(("127.0.0.1", 0))
    server = load_transport().Server(service, listener, grpc_host="127.0.0.1", drain=DRAIN_SECONDS)

    def announce() -> None:
        _report(options, {
            "port": listener.getsockname()[1], "grpc_port": server.grpc_port,
            "digest": service.engine.digest, "version": options.version, "form": service.engine.form,
            "seconds": round(time.perf_counter() - began, 3),
        })  # fmt: skip

    server.run(announce)
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


def _report(options: WorkerOptions, facts: dict[str, object]) -> None:
    files.write_json(options.ready_file, {"pid": os.getpid(), **facts})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
