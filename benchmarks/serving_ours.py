"""Tokka's own servers for the benchmarks of serving: workers alone, and behind the gateway.

servers = ours(stack, "int8", model_folder, logs)      # stack: a contextlib.ExitStack that ends them
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving_client import RestTarget, Target
from serving_grpc_client import GrpcTarget

from tokka.serving.options import WorkerOptions, command

PATIENCE = 180.0


@dataclass(frozen=True)
class Server:
    """A running server: its processes, and how clients ask it."""

    name: str
    form: str
    pids: tuple[int, ...]
    target: Target
    log: Path


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(program: Sequence[str], log: Path) -> Iterator[int]:
    """A process group that is killed at the end; its pid."""
    import signal

    with log.open("wb") as output:
        child = subprocess.Popen(program, stdout=output, stderr=output, start_new_session=True)
    try:
        yield child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def worker(stack: contextlib.ExitStack, form: str, model: Path, logs: Path, number: int = 0) -> tuple[int, Any]:
    """Start one worker of ours; its pid and what its ready file says."""
    ready = logs / f"worker-{form}-{number}.json"
    options = {"model_dir": model, "ready_file": ready, "name": "bench", "form": form, "requests": logs / "requests"}
    told = WorkerOptions.model_validate(options)
    pid = stack.enter_context(started(command(told), logs / f"worker-{form}-{number}.log"))
    until = time.monotonic() + PATIENCE
    while not ready.exists():
        if time.monotonic() > until:
            raise SystemExit(f"a worker did not start: {(logs / f'worker-{form}-{number}.log').read_text()[-500:]}")
        time.sleep(0.05)
    return pid, json.loads(ready.read_text())


def text_body(text: str) -> dict[str, str]:
    """The body of POST /predict."""
    return {"text": text}


def infer_body(text: str) -> dict[str, Any]:
    """The body of POST /v2/models/bench/infer."""
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def ours(stack: contextlib.ExitStack, form: str, model: Path, logs: Path) -> list[Server]:
    """One worker over REST, plain and v2, and gRPC; then all through the gateway: one worker, and two, the default."""
    first, second = (worker(stack, form, model, logs, number=number) for number in range(2))
    pid, facts = first
    rest = Server("tokka, REST", form, (pid,), RestTarget(facts["port"], "/predict", text_body), logs)
    grpc = Server("tokka, gRPC", form, (pid,), GrpcTarget(facts["grpc_port"], "bench"), logs)
    infer = RestTarget(facts["port"], "/v2/models/bench/infer", infer_body)
    return [
        rest,
        Server("tokka, REST v2", form, (pid,), infer, logs),
        grpc,
        *behind_gateway(stack, form, [first], logs),
        *behind_gateway(stack, form, [first, second], logs),
    ]


def receiver(stack: contextlib.ExitStack, logs: Path, folder: Path) -> int:
    """Start what takes the log of the gateway in a folder; its pid."""
    script, output = str(Path(__file__).with_name("serving_receiver.py")), folder / "receiver.log"
    pid = stack.enter_context(started([sys.executable, script, str(logs / "requests"), str(folder)], output))
    until = time.monotonic() + PATIENCE
    while not output.read_text().endswith("\n"):
        if time.monotonic() > until:
            raise SystemExit("the gateway's log was not taken")
        time.sleep(0.05)
    return pid


def behind_gateway(
    stack: contextlib.ExitStack, form: str, workers: Sequence[tuple[int, Any]], logs: Path
) -> list[Server]:
    """The gateway, with its request log, in front of workers that run already: asked over REST, and over gRPC."""
    from tokka.gateway.exposure import Exposure
    from tokka.gateway.gateway import Gateway, Split

    folder, public = logs / f"gateway-{form}-{len(workers)}", free_port()
    folder.mkdir()
    log_pid = receiver(stack, logs, folder)
    exposure = Exposure(grpc_port=free_port())
    places = {"port": public, "slots": 2, "max_body_bytes": 1_000_000}
    gateway = Gateway(folder, **places, log=logs / "gateway.log", exposure=exposure)
    stack.callback(gateway.stop)
    ports = {name: tuple(facts[name] for _, facts in workers) for name in ("port", "grpc_port")}
    gateway.sync(Split(champion="1@0", champion_ports=ports["port"], champion_grpc_ports=ports["grpc_port"]))
    way = f"through the gateway, {len(workers)} worker{'s' * (len(workers) > 1)}"
    pids = (*(pid for pid, _ in workers), gateway.pids[0], log_pid)
    return [
        Server(f"tokka, REST {way}", form, pids, RestTarget(public, "/predict", text_body), logs),
        Server(f"tokka, gRPC {way}", form, pids, GrpcTarget(exposure.grpc_port, "bench"), logs),
    ]
