"""From the cells of one record to one canonical row, or the reason why it is none: the only judge of a row."""

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from tokka.data.rows import Row
from tokka.params import Data, Task

LABEL_CHARACTERS = 200
# The year 2286: what is larger most likely counts milliseconds, and is refused.
LATEST_SECONDS = 1e10
# Seconds since 1970 in a file that knows words only: fewer digits may be a date, such as 20260531.
SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Unusable(ValueError):
    """The reason why a record goes to quarantine."""


def to_row(cells: Mapping[str, Any], task: Task, limits: Data) -> Row:
    """The canonical row of a record.

    Raises:
        Unusable: a cell is missing, too long, of the wrong kind, not finite or not valid Unicode.
    """
    text = to_text(cells[task.text], task.text, limits)
    pair = to_text(cells[task.text_pair], task.text_pair, limits) if task.text_pair else ""
    target = _number(cells[task.target], task) if task.type == "regression" else _label(cells[task.target], task)
    group = _word(cells[task.group], task.group, limits) if task.group else ""
    if task.group and not group:
        raise Unusable(f"empty {task.group!r} (task.group)")
    time = _time(cells[task.time], task.time) if task.time else ""
    slices = tuple(_word(cells[name], name, limits) for name in task.slices)
    return Row(text, pair, target, group, time, slices)


def to_text(cell: Any, name: str, limits: Data) -> str:
    """The text of a cell, under its column's name.

    Raises:
        Unusable: it is missing, blank, too long, no text, or not valid Unicode.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        raise Unusable(f"empty {name!r}")
    if not isinstance(cell, str):
        raise Unusable(f"{name!r} is a {type(cell).__name__}, expected text")
    if len(cell) > limits.max_cell_characters:
        raise Unusable(
            f"{name!r} has {len(cell):,} characters, over data.max_cell_characters = {limits.max_cell_characters:,}"
        )
    if not any(character.isprintable() and not character.isspace() for character in cell):
        raise Unusable(f"empty {name!r}")
    return _unicode(cell, name)


def _label(cell: Any, task: Task) -> str:
    if isinstance(cell, float) and cell.is_integer():
        # An integer label next to an empty cell arrives as a float from most data-frame libraries.
        cell = int(cell)
    label = _plain(cell, task.target).strip()
    if not label:
        raise Unusable(f"empty {task.target!r}")
    if len(label) > LABEL_CHARACTERS:
        raise Unusable(f"{task.target!r} has {len(label):,} characters, over {LABEL_CHARACTERS}: no label")
    return _unicode(label, task.target)


def _number(cell: Any, task: Task) -> float:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise Unusable(f"empty {task.target!r}")
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise Unusable(f"{task.target!r} is a {type(cell).__name__}, expected a number")
    if isinstance(cell, str) and not NUMBER.fullmatch(cell.strip()):
        raise Unusable(f"{task.target!r} is {cell.strip()[:40]!r}, expected a finite number")
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unusable(f"{task.target!r} is {number}, expected a finite number")
    return number


def _time(cell: Any, name: str) -> str:
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    if isinstance(cell, str) and SECONDS.fullmatch(cell.strip()):
        cell = float(cell)
    if isinstance(cell, int | float) and not isinstance(cell, bool) and 0 <= cell < LATEST_SECONDS:
        return datetime.datetime.fromtimestamp(cell, datetime.UTC).isoformat(timespec="seconds")
    word = _plain(cell, name).strip()
    try:
        # A date stays a date: midnight would be a claim that the file does not make.
        kind = datetime.datetime if len(word) > len("2026-05-31") else datetime.date
        return kind.fromisoformat(word).isoformat()
    except ValueError:
        raise Unusable(
            f"{name!r} is {word[:40]!r}, expected an ISO 8601 time such as 2026-05-31T12:00:00 or seconds since 1970"
        ) from None


def _word(cell: Any, name: str, limits: Data) -> str:
    word = _plain(cell, name).strip()
    if len(word) > limits.max_cell_characters:
        raise Unusable(
            f"{name!r} has {len(word):,} characters, over data.max_cell_characters = {limits.max_cell_characters:,}"
        )
    return _unicode(word, name)


def _plain(cell: Any, name: str) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, str | int | datetime.date):
        return str(cell)
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise Unusable(f"{name!r} is {cell}")
        return repr(cell)
    raise Unusable(f"{name!r} is a {type(cell).__name__}, expected a single value")


def _unicode(word: str, name: str) -> str:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(f"{name!r} holds half a surrogate pair: not valid Unicode") from None
    return word
