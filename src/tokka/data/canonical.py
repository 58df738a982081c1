"""From the cells of one record to one canonical row, or the reason why it is none."""

import datetime
import math
import re
import uuid
from collections.abc import Mapping
from decimal import Decimal

from tokka.data import normalising
from tokka.data.rows import Row
from tokka.sections import Data, Task

LABEL_CHARACTERS = 200
# The year 2286: what is larger most likely counts milliseconds, and is refused.
LATEST_SECONDS = 1e10
# Seconds since 1970 as text: fewer digits may be a date, such as 20260531.
SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
# Models compute in single precision, and square their errors.
LARGEST_NUMBER = 1e15
NO_TIME = ("", "nat", "nan", "none", "null")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Unusable(ValueError):
    """The reason why a record goes to quarantine."""


def to_row(cells: Mapping[str, object], task: Task, limits: Data) -> Row:
    """The canonical row of a record; Unusable for a cell that is missing, too long, of the wrong kind or not finite."""
    text = to_text(cells[task.text], task.text, limits)
    pair = to_text(cells[task.text_pair], task.text_pair, limits) if task.text_pair else ""
    number = task.type == "regression"
    target = _number(cells[task.target], task.target) if number else _label(cells[task.target], task.target)
    most = limits.max_cell_characters
    group = _check(_plain(cells[task.group], task.group), task.group, most) if task.group else ""
    if task.group and not group:
        raise Unusable(f"empty {task.group!r} (task.group)")
    time = _time(cells[task.time], task.time) if task.time else ""
    slices = tuple(_check(_plain(cells[name], name), name, most) for name in task.slices)
    return Row(text, pair, target, group, time, slices)


def to_text(cell: object, name: str, limits: Data) -> str:
    """The text of a cell, under its column's name; Unusable when it is missing, blank, too long or no text."""
    cell = _decoded(cell, name)
    if _is_missing(cell):
        raise Unusable(f"empty {name!r}")
    if not isinstance(cell, str):
        raise Unusable(f"{name!r} is a {type(cell).__name__}, expected text")
    _check(cell, name, limits.max_cell_characters)
    if not any(character.isprintable() and not character.isspace() for character in cell):
        raise Unusable(f"empty {name!r}")
    return cell


def _label(cell: object, name: str) -> str:
    label = _plain(cell, name)
    if not label:
        raise Unusable(f"empty {name!r}")
    if len(label) > LABEL_CHARACTERS:
        raise Unusable(f"{name!r} has {len(label):,} characters, over {LABEL_CHARACTERS}: no label")
    return _check(label, name)


def _number(cell: object, name: str) -> float:
    cell = _decoded(cell, name)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise Unusable(f"empty {name!r}")
    if isinstance(cell, bool) or not isinstance(cell, int | float | str | Decimal):
        raise Unusable(f"{name!r} is a {type(cell).__name__}, expected a number")
    word = str(cell).strip()
    number = float(word) if NUMBER.fullmatch(word) else math.nan
    if not math.isfinite(number):
        raise Unusable(f"{name!r} is {word[:40]!r}, expected a finite number")
    if abs(number) > LARGEST_NUMBER:
        raise Unusable(f"{name!r} is {word[:40]}, over {LARGEST_NUMBER:g}: give it in a larger unit, or its logarithm")
    return number


def _time(cell: object, name: str) -> str:
    """ISO 8601, or empty for no time; one with a zone in UTC, so that instants compare as texts do."""
    cell = _decoded(cell, name)
    if isinstance(cell, str) and SECONDS.fullmatch(cell.strip()):
        cell = float(cell)
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool) and 0 <= cell < LATEST_SECONDS:
        return datetime.datetime.fromtimestamp(float(cell), datetime.UTC).isoformat(timespec="seconds")
    word = cell.isoformat() if isinstance(cell, datetime.date) else _plain(cell, name)
    if word.lower() in NO_TIME:
        return ""
    try:
        # A date stays a date: midnight would be a claim that the file does not make.
        if len(word) <= len("2026-05-31"):
            return datetime.date.fromisoformat(word).isoformat()
        moment = datetime.datetime.fromisoformat(word)
        return (moment.astimezone(datetime.UTC) if moment.tzinfo else moment).isoformat()
    except (ValueError, OverflowError):
        raise Unusable(
            f"{name!r} is {word[:40]!r}, expected an ISO 8601 time such as 2026-05-31T12:00:00 or seconds since 1970; "
            "--set task.time=null leaves the column out"
        ) from None


def _plain(cell: object, name: str) -> str:
    cell = _decoded(cell, name)
    if _is_missing(cell):
        return ""
    if isinstance(cell, float | Decimal) and not math.isfinite(cell):
        raise Unusable(f"{name!r} is {cell}")
    if isinstance(cell, float | Decimal) and cell == int(cell):
        # An integer next to an empty cell arrives as a float from most data-frame libraries.
        cell = int(cell)
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    if isinstance(cell, str | int | float | datetime.date | uuid.UUID):
        # `label` knows both spellings of a truth value.
        return normalising.label(str(cell))
    raise Unusable(f"{name!r} is a {type(cell).__name__}, expected a single value")


def _decoded(cell: object, name: str) -> object:
    """The text of a cell of bytes; what else there is as it is."""
    if not isinstance(cell, bytes):
        return cell
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable(f"{name!r} holds bytes that are not UTF-8, expected text or a single value") from None


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
