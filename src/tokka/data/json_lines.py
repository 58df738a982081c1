"""JSON-lines, one object per line; an object that is broken, or has a key twice, costs its own row."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokka.data import streams
from tokka.data.records import Record, broken, check_header, required_columns
from tokka.errors import TokkaError
from tokka.params import Data, Task

LOOK_AHEAD = 100


def read(path: Path, task: Task, limits: Data) -> Iterator[Record]:
    """The records of a JSON-lines file; the columns are the keys of its first hundred rows.

    Raises:
        TokkaError: the file as a whole cannot be trusted (see `streams.lines`), or is one JSON array.
        UsageError: none of the first rows has a key that the task needs.
    """
    source = _objects(path, limits)
    ahead = list(itertools.islice(source, LOOK_AHEAD))
    keys = {str(key): None for record in ahead for key in record.cells or {}}
    if keys:
        check_header(path, list(keys), task)
    wanted = list(required_columns(task))
    for record in itertools.chain(ahead, source):
        yield _complete(record, wanted)


def header(path: Path, limits: Data) -> list[str]:
    """The keys of the first hundred objects of a JSON-lines file.

    Raises:
        TokkaError: as `read`.
    """
    first = itertools.islice(_objects(path, limits), LOOK_AHEAD)
    return list({str(key): None for record in first for key in record.cells or {}})


def _objects(path: Path, limits: Data) -> Iterator[Record]:
    for number, line in streams.lines(path, limits):
        if number == 1 and line.lstrip().startswith("["):
            raise TokkaError(f"{path}, line 1: a JSON array, not one object per line", "convert it: jq -c '.[]' FILE")
        if line.strip():
            yield _parse(number, line)


def _parse(number: int, line: str) -> Record:
    try:
        cells = json.loads(line, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        return broken(number, line, "not JSON that can be read: too deep")
    except ValueError as error:
        cut = " (the file ends in the middle of a row)" if not line.endswith("\n") else ""
        return broken(number, line, f"not JSON: {error}{cut}")
    if not isinstance(cells, dict):
        return broken(number, line, f"a JSON {type(cells).__name__}, expected an object")
    return Record(number, cells, line)


def _complete(record: Record, wanted: list[str]) -> Record:
    if record.cells is None:
        return record
    missing = [name for name in wanted if name not in record.cells]
    if missing:
        return broken(record.line, record.raw, f"no key {missing[0]!r}")
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
