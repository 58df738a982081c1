"""What the stack's processes log: one JSON object a line on standard error.

    json_log.start("worker", revision="3@ab12")
    logger.warning("the disk is full", extra={"prediction_id": name})
    # {"time": "2026-01-31T12:00:00.123+00:00", "level": "WARNING", "logger": "tokka.serving",
    #  "message": "the disk is full", "pid": 4711, "process": "worker", "revision": "3@ab12", "prediction_id": "…"}

An exception is logged by its type and place. What it says may quote a request, so only where texts may be kept is it
logged too.
"""

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType

from tokka.errors import TokkaError

# What every record has by itself; the rest came with `extra`.
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
_FRAMES = 12
# Ours from INFO on, others' from WARNING on.
_LEVELS = {"": logging.WARNING, "tokka": logging.INFO}


class JsonLines(logging.Formatter):
    """A record as one JSON object with some facts; `quoting` logs what an exception says too."""

    def __init__(self, facts: dict[str, object], *, quoting: bool) -> None:
        super().__init__()
        self._facts, self._quoting = facts, quoting

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **self._facts,
            **{name: value for name, value in record.__dict__.items() if name not in _USUAL},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1], quoting=self._quoting)
        return json.dumps(line, ensure_ascii=True, default=str)


def describe(error: BaseException, *, quoting: bool) -> dict[str, object]:
    """An exception as plain data: its type, the innermost places that it came through, and what it says if it may."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    found: dict[str, object] = {"type": type(error).__name__, "places": places[-_FRAMES:]}
    # Our own errors speak of models and files; others may speak of what was sent.
    return {**found, "says": str(error)} if quoting or isinstance(error, TokkaError) else found


def start(process: str, *, quoting: bool = True, **facts: object) -> None:
    """Log as `JsonLines` from now on, whatever was set up before, and uncaught exceptions and warnings too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines({"process": process, **facts}, quoting=quoting))
    logging.getLogger().handlers[:] = [handler]
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda raised: _log_uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)


def in_words(line: str) -> str:
    """A line of a log for people: its message, and its hint where it has one; as it is when it is no such line."""
    try:
        tree = json.loads(line)
        hint = tree.get("hint")
        return f"{tree['message']} ({hint})" if hint else str(tree["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line


def _log_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    logging.getLogger("tokka").critical("an uncaught exception", exc_info=(kind, error or kind(), where))
