"""From the cells of one record to one canonical row, or the reason why it is none."""

import datetime
import math
import re
from collections.abc import Mapping

from tokka.data.rows import Row
from tokka.params import Data, Task

LABEL_CHARACTERS = 200
# The year 2286: what is larger most likely counts milliseconds, and is refused.
LATEST_SECONDS = 1e10
# Seconds since 1970 as text: fewer digits may be a date, such as 20260531.
SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Unusable(ValueError):
    """The reason why a record goes to quarantine."""


def to_row(cells: Mapping[str, object], task: Task, limits: Data) -> Row:
    """The canonical row of a record.

    Raises:
        Unusable: a cell is missing, too long, of the wrong kind, not finite or not valid Unicode.
    """
    text = to_text(cells[task.text], task.text, limits)
    pair = to_text(cells[task.text_pair], task.text_pair, limits) if task.text_pair else ""
    number = task.type == "regression"
    target = _number(cells[task.target], task.target) if number else _label(cells[task.target], task.target)
    group = _word(cells[task.group], task.group, limits.max_cell_characters) if task.group else ""
    if task.group and not group:
        raise Unusable(f"empty {task.group!r} (task.group)")
    time = _time(cells[task.time], task.time) if task.time else ""
    slices = tuple(_word(cells[name], name, limits.max_cell_characters) for name in task.slices)
    return Row(text, pair, target, group, time, slices)


def to_text(cell: object, name: str, limits: Data) -> str:
    """The text of a cell, under its column's name.

    Raises:
        Unusable: it is missing, blank, too long, no text, or not valid Unicode.
    """
    if _is_missing(cell):
        raise Unusable(f"empty {name!r}")
    if not isinstance(cell, str):
        raise Unusable(f"{name!r} is a {type(cell).__name__}, expected text")
    _check(cell, name, limits.max_cell_characters)
    if not any(character.isprintable() and not character.isspace() for character in cell):
        raise Unusable(f"empty {name!r}")
    return cell


def _label(cell: object, name: str) -> str:
    if isinstance(cell, float) and cell.is_integer():
        # An integer label next to an empty cell arrives as a float from most data-frame libraries.
        cell = int(cell)
    label = _plain(cell, name)
    if not label:
        raise Unusable(f"empty {name!r}")
    if len(label) > LABEL_CHARACTERS:
        raise Unusable(f"{name!r} has {len(label):,} characters, over {LABEL_CHARACTERS}: no label")
    return _check(label, name)


def _number(cell: object, name: str) -> float:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise Unusable(f"empty {name!r}")
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise Unusable(f"{name!r} is a {type(cell).__name__}, expected a number")
    word = str(cell).strip()
    number = float(word) if NUMBER.fullmatch(word) else math.nan
    if not math.isfinite(number):
        raise Unusable(f"{name!r} is {word[:40]!r}, expected a finite number")
    return number


def _time(cell: object, name: str) -> str:
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    if isinstance(cell, str) and SECONDS.fullmatch(cell.strip()):
        cell = float(cell)
    if isinstance(cell, int | float) and not isinstance(cell, bool) and 0 <= cell < LATEST_SECONDS:
        return datetime.datetime.fromtimestamp(cell, datetime.UTC).isoformat(timespec="seconds")
    word = _plain(cell, name)
    try:
        # A date stays a date: midnight would be a claim that the file does not make.
        kind = datetime.datetime if len(word) > len("2026-05-31") else datetime.date
        return kind.fromisoformat(word).isoformat()
    except ValueError:
        raise Unusable(
            f"{name!r} is {word[:40]!r}, expected an ISO 8601 time such as 2026-05-31T12:00:00 or seconds since 1970"
        ) from None


def _word(cell: object, name: str, longest: int) -> str:
    return _check(_plain(cell, name), name, longest)


def _plain(cell: object, name: str) -> str:
    """A single value as a word without white space around it; empty when it is missing."""
    if _is_missing(cell):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and not math.isfinite(cell):
        raise Unusable(f"{name!r} is {cell}")
    if isinstance(cell, str | int | float | datetime.date):
        return str(cell).strip()
    raise Unusable(f"{name!r} is a {type(cell).__name__}, expected a single value")


def _is_missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _check(word: str, name: str, longest: float = math.inf) -> str:
    if len(word) > longest:
        raise Unusable(f"{name!r} has {len(word):,} characters, over data.max_cell_characters = {longest:,}")
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(f"{name!r} holds half a surrogate pair: not valid Unicode") from None
    return word
