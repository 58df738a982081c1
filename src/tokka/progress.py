"""What a step is doing now, as one JSON line per event, for whoever started the run to show.

Events go to the file in TOKKA_EVENTS, or, without one, to standard error as plain lines. In a pod the latter are the
log, which is all that Kubeflow keeps of a step's words: there, what a step found and how it ended stands in it whole.
What libraries print beside them, for their own developers, `silent` keeps back.
"""

import contextlib
import io
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping

from tokka.files import JsonObject

IN_POD = "KUBERNETES_SERVICE_HOST"
# What a line of a pod's log begins with when the rest is an event.
MARK = "tokka-event "


def report(step: str, message: str, *, fraction: float | None = None, **facts: object) -> None:
    """Say what `step` does; `fraction` in [0, 1] is how far it is."""
    _emit({"step": step, "event": "progress", "message": message, "fraction": fraction, **facts})


def result(step: str, **facts: object) -> None:
    """Say what `step` found, for the table that ends a run; facts are plain data."""
    _emit({"step": step, "event": "result", "message": "", "facts": facts})


def refused(step: str, reason: str, hint: str = "") -> None:
    """Say that the run ends here because `step` refused: not a failure of any step."""
    _emit({"step": step, "event": "refused", "message": reason, "error": reason, "hint": hint})


@contextlib.contextmanager
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


def describe(error: BaseException) -> dict[str, object]:
    """An error as plain data, so that the starter of the run can repeat it to the user."""
    return {
        "error": str(error) or type(error).__name__,
        "kind": type(error).__name__,
        "hint": getattr(error, "hint", ""),
        "exit_code": getattr(error, "exit_code", 1),
    }


@contextlib.contextmanager
def silent(level: int = logging.WARNING) -> Iterator[None]:
    """No warnings, no log lines up to a level, nothing on standard output."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _emit(event: dict[str, object]) -> None:
    event = {"time": time.time(), **event}
    path = os.environ.get("TOKKA_EVENTS")
    if not path:
        whole = IN_POD in os.environ and event["event"] != "progress"
        print(MARK + json.dumps(event, default=str) if whole else as_line(event), file=sys.stderr, flush=True)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(event, default=str) + "\n").encode())
    finally:
        os.close(descriptor)


def as_line(event: Mapping[str, object]) -> str:
    """An event for people."""
    return f"[{event['step']}] {event.get('message') or event.get('error') or event['event']}"


def read_log(log: str) -> tuple[list[JsonObject], str]:
    """The events of a pod's log, and the log for people, in which they are lines as others."""
    events, lines = [], []
    for line in log.splitlines():
        event = _event(line.partition(MARK)[2]) if MARK in line else None
        if event:
            events.append(event)
        lines.append(as_line(event) if event else line)
    return events, "\n".join(lines)


def _event(text: str) -> JsonObject | None:
    """None for a line that was cut short, as that of a killed pod."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"step", "event"} <= set(event) else None
