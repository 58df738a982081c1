"""CSV and TSV, row by row: a stray quote costs its own row, never the hundreds that follow it.

The csv module alone reads two stray quotes as one cell that swallows every row between them. Here a record may
span lines only if no two of its lines look like rows of their own.
"""

import contextlib
import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tokka.data import streams
from tokka.data.canonical import NUMBER
from tokka.data.records import Record, Table, broken, required_columns
from tokka.errors import TokkaError
from tokka.params import Data, Task

DELIMITERS = (",", "\t", ";", "|")
LINES_PER_RECORD = 200
LOOK_AHEAD = 500
Line = tuple[int, str]


def open_table(path: Path, task: Task, limits: Data) -> Table:
    """A delimited file.

    Raises:
        TokkaError: the file as a whole cannot be trusted (see `streams.lines`), or its first line is blank.
    """
    csv.field_size_limit(streams.LONGEST_LINE + 1)
    source = streams.lines(path, limits)
    header, delimiter = _sniff(path, next(source, (1, ""))[1], set(required_columns(task)))
    return Table(header, lambda here: _Delimited(header, delimiter, here, source).records())


def _sniff(path: Path, line: str, wanted: set[str]) -> tuple[list[str], str]:
    """The delimiter under which the header has most of the wanted columns, then most columns at all."""
    if not line.strip():
        raise TokkaError(f"{path}, line 1: the header is blank", "the first line must name the columns")
    found: list[tuple[list[str], str]] = []
    for delimiter in DELIMITERS:
        with contextlib.suppress(csv.Error):
            found.append(([name.strip() for name in _parse([line], delimiter) or []], delimiter))
    header, delimiter = max(found, key=lambda one: (len(wanted & set(one[0])), len(one[0])), default=([], ""))
    if not header:
        raise TokkaError(f"{path}, line 1: the header's quotes do not close", "mend the quotes in the header line")
    return header, delimiter


def _parse(physical: list[str], delimiter: str) -> list[str] | None:
    """The one record in these lines, or None while a quote stands open; csv.Error when a quote is stray."""
    try:
        found = list(csv.reader(physical, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None
        raise
    return found[0] if len(found) == 1 else None


class _Delimited:
    """The lines of one file, with those looked at ahead and not yet taken."""

    def __init__(self, header: list[str], delimiter: str, task: Task, source: Iterator[Line]) -> None:
        self.header, self.delimiter, self.source = header, delimiter, source
        self.wanted = list(required_columns(task))
        self.target = header.index(task.target)
        self.number = task.type == "regression"
        self.ahead: deque[Line] = deque()
        self._look(LOOK_AHEAD)
        whole = (line for _, line in self.ahead if '"' not in line and line.endswith("\n"))
        self.targets = {target for line in whole if (target := self._bare_target(line)) is not None}

    def records(self) -> Iterator[Record]:
        while self._look(1):
            number, line = self.ahead.popleft()
            if line.strip("\r\n"):
                yield self._record(number, line)

    def _record(self, number: int, line: str) -> Record:
        if '"' not in line:
            return self._cells(number, line.rstrip("\r\n").split(self.delimiter), line)
        try:
            cells = _parse([line], self.delimiter)
            if cells is None:
                return self._across_lines(number, line)
        except csv.Error as error:
            return broken(number, line, f"stray quote: {error}")
        return self._cells(number, cells, line)

    def _across_lines(self, number: int, line: str) -> Record:
        """A quote stands open at the line's end: take following lines until it closes, or give up on this line.

        One row on several lines has at most one line that looks like a row of its own (the first or the last,
        by where the quoted cell stands); two of them are two rows with a stray quote each.
        """
        physical, complete = [line], int(self._looks_like_row(line))
        while len(physical) < LINES_PER_RECORD and self._look(len(physical)):
            following = self.ahead[len(physical) - 1][1]
            complete += self._looks_like_row(following)
            if complete > 1:
                return broken(number, line, "stray quote: it would swallow the rows that follow")
            physical.append(following)
            if '"' in following and (cells := _parse(physical, self.delimiter)) is not None:
                for _ in physical[1:]:
                    self.ahead.popleft()
                return self._cells(number, cells, "".join(physical))
        return broken(number, line, "stray quote: it is never closed")

    def _cells(self, number: int, cells: list[str], raw: str) -> Record:
        if len(cells) != len(self.header):
            cut = " (the file ends in the middle of a row)" if not raw.endswith("\n") and not self._look(1) else ""
            return broken(number, raw, f"{len(cells)} cells, but the header has {len(self.header)}{cut}")
        target = cells[self.target].strip()
        # Without a line end at the end of the file, a label that nothing else has is most likely half a label.
        if not raw.endswith(("\n", "\r")) and not self.number and self.targets and target not in self.targets:
            return broken(number, raw, f"the file ends without a line end, and {target!r} is no other row's target")
        self.targets.add(target)
        return Record(number, {name: cells[self.header.index(name)] for name in self.wanted}, raw)

    def _look(self, count: int) -> bool:
        while len(self.ahead) < count and (line := next(self.source, None)) is not None:
            self.ahead.append(line)
        return len(self.ahead) >= count

    def _bare_target(self, line: str) -> str | None:
        """The target of a line taken alone, quotes as plain characters; None when cells are missing or left over."""
        cells = line.rstrip("\r\n").split(self.delimiter)
        return cells[self.target].strip() if len(cells) == len(self.header) else None

    def _looks_like_row(self, line: str) -> bool:
        """Taken alone, the line has every cell and a target that rows do have."""
        target = self._bare_target(line) or ""
        return bool(NUMBER.fullmatch(target)) if self.number else target in self.targets and bool(target)
