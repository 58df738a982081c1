"""JSON-lines, one object per line; an object that is broken, or has a key twice, costs its own row."""

import itertools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tokka.data import streams
from tokka.data.records import Record, Table, broken, required_columns
from tokka.errors import TokkaError
from tokka.sections import Data, Task

LOOK_AHEAD = 100


def open_table(path: Path, task: Task, limits: Data) -> Table:
    """A JSON-lines file; its columns are the keys of its first hundred rows, or the task's where none is an object.

    TokkaError when it cannot be trusted (see `streams.lines`), or is one JSON array.
    """
    source = _objects(path, limits)
    ahead = list(itertools.islice(source, LOOK_AHEAD))
    keys = dict.fromkeys(str(key) for record in ahead for key in record.cells or {})
    found = itertools.chain(ahead, source)
    return Table(
        list(keys or required_columns(task)),
        lambda here: (_complete(record, list(required_columns(here))) for record in found),
    )


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
    missing = [name for name in wanted if record.cells is not None and name not in record.cells]
    return broken(record.line, record.raw, f"no key {missing[0]!r}") if missing else record


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = {unicodedata.normalize("NFC", key): value for key, value in pairs}
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
