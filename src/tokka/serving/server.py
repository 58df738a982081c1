"""A worker: one process, one revision, KServe's model server bound to loopback.

    python -m tokka.serving.server --model-dir .tokka/models/DIGEST --name helpdesk --version 3 --port 9001

Verify, load, warm up, and only then listen: whoever can connect gets an answer. SIGTERM drains: no new connection
is taken, and what was taken is answered.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import json_log, process
from tokka.request_log.log import Writer
from tokka.serving.engine import Engine
from tokka.serving.kserve_import import load_transport
from tokka.serving.service import Options, Service
from tokka.settings import Settings

logger = logging.getLogger("tokka.serving")

DRAIN_SECONDS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns the exit code."""
    began = time.perf_counter()
    wanted = _parser().parse_args(arguments)
    revision = f"{wanted.version}@{wanted.digest[:12]}"
    json_log.start("worker", quoting=wanted.store_text, model=wanted.name, revision=revision)
    try:
        service = process.gently(lambda: make_service(wanted))
        sockets = {"rest": _bind(wanted.host, wanted.port)}
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        _report(wanted, {"error": error.message, "hint": error.hint})
        return error.exit_code
    server = load_transport().Server(
        service, sockets["rest"], grpc_host=wanted.host if wanted.grpc else None, drain=DRAIN_SECONDS
    )

    def announce() -> None:
        _report(wanted, {
            "port": sockets["rest"].getsockname()[1], "grpc_port": server.grpc_port,
            "digest": service.engine.digest, "version": wanted.version, "form": service.engine.form,
            "seconds": round(time.perf_counter() - began, 3),
        })  # fmt: skip

    signal.signal(signal.SIGINT, signal.SIG_IGN if wanted.ready_file else signal.SIG_DFL)
    server.run(announce)
    return 0


def make_service(wanted: argparse.Namespace) -> Service:
    """Verify, load and warm up what the arguments name.

    Raises:
        TokkaError: the model folder is not what it should be.
    """
    settings = Settings.from_environment()
    engine = Engine.load(
        wanted.model_dir, digest=wanted.digest, form=wanted.form, settings=settings if wanted.signed else None
    )
    seconds = engine.warm_up(wanted.batch)
    logger.info("warm after %.2f s", seconds, extra={"digest": engine.digest, "form": engine.form})
    options = Options(
        name=wanted.name, version=wanted.version, batch=wanted.batch, max_delay_ms=wanted.max_delay_ms,
        max_body_bytes=wanted.max_body_bytes, max_rows=wanted.max_rows,
        max_tokens=wanted.max_tokens, store_text=wanted.store_text, jobs=wanted.jobs,
    )  # fmt: skip
    return Service(engine, options, Writer(wanted.requests, "worker") if wanted.requests else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokka.serving.server", description="Serve one model folder.")
    parser.add_argument("--model-dir", type=Path, required=True, help="the model folder")
    parser.add_argument("--name", default="model", help="model name in the v2 protocol")
    parser.add_argument("--version", default="0", help="registry version, repeated in every answer")
    parser.add_argument("--digest", default="", help="refuse a folder with another digest")
    parser.add_argument("--form", choices=("int8", "fp32", "torch"), default=None, help="default: what the model says")
    parser.add_argument("--signed", action="store_true", help="refuse a folder without a good signature")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--grpc", action="store_true", help="also serve gRPC, on a free port")
    parser.add_argument("--ready-file", type=Path, default=None, help="written once ready: ports, digest, seconds")
    parser.add_argument("--requests", type=Path, default=None, help="folder of the request log")
    parser.add_argument("--batch", type=int, default=16, help="rows in one batch")
    parser.add_argument("--max-delay-ms", type=float, default=2.0, help="wait of a busy worker for a fuller batch")
    parser.add_argument("--max-body-bytes", type=int, default=1_000_000, help="more is answered with 413")
    parser.add_argument("--max-rows", type=int, default=256, help="more rows in one request are answered with 422")
    parser.add_argument("--max-tokens", type=int, default=16_384, help="more in one request are answered with 422")
    parser.add_argument("--store-text", action="store_true", help="keep the texts in the request log")
    parser.add_argument("--jobs", action="store_true", help="describe the way for requests that can wait")
    return parser


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise TokkaError(f"{host}:{port} cannot be listened on: {error.strerror}", "choose another --port") from None
    listener.set_inheritable(True)
    return listener


def _report(wanted: argparse.Namespace, facts: dict[str, Any]) -> None:
    if wanted.ready_file is not None:
        files.write_json(wanted.ready_file, {"pid": os.getpid(), **facts})
    elif "port" in facts:
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
