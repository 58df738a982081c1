"""What a step is doing now, as one JSON line per event, for whoever started the run to show.

    progress.report("finetune", "epoch 2 of 6, validation accuracy 0.912", fraction=0.33)

Events go to the file in TOKKA_EVENTS, or, without one, to standard error as plain lines.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def report(step: str, message: str, *, fraction: float | None = None, **facts: Any) -> None:
    """Say what `step` does; `fraction` in [0, 1] is how far it is."""
    _emit({"step": step, "event": "progress", "message": message, "fraction": fraction, **facts})


def result(step: str, **facts: Any) -> None:
    """Say what `step` found, for the table that ends a run; facts are plain data."""
    _emit({"step": step, "event": "result", "message": "", "facts": facts})


@contextmanager
def step(name: str) -> Iterator[None]:
    """Report start, end and seconds of a step; a failure is reported with its message and raised on."""
    began = time.monotonic()
    _emit({"step": name, "event": "started"})
    try:
        yield
    except BaseException as error:
        _emit({"step": name, "event": "failed", "seconds": time.monotonic() - began, **describe(error)})
        raise
    _emit({"step": name, "event": "done", "seconds": time.monotonic() - began})


def describe(error: BaseException) -> dict[str, Any]:
    """An error as plain data, so that the starter of the run can repeat it to the user."""
    return {
        "error": str(error) or type(error).__name__,
        "kind": type(error).__name__,
        "hint": getattr(error, "hint", ""),
        "exit_code": getattr(error, "exit_code", 1),
    }


def _emit(event: dict[str, Any]) -> None:
    event = {"time": time.time(), **event}
    path = os.environ.get("TOKKA_EVENTS")
    if not path:
        print(f"[{event['step']}] {event.get('message') or event['event']}", file=sys.stderr, flush=True)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(event, default=str) + "\n").encode())
    finally:
        os.close(descriptor)
