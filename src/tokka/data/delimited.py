"""CSV and TSV, row by row: a stray quote costs its own row, never the hundreds that follow it.

The csv module alone reads two stray quotes as one cell that swallows every row between them. Here a record may
span lines only if no two of its lines look like rows of their own.

Beside RFC 4180 two dialects are told by what the first lines would be without them: quotes escaped by a backslash, as
Spark and MySQL write them, and tables with tabs in which a quote is a character like any other.
"""

import contextlib
import csv
import itertools
import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tokka.data import streams
from tokka.data.canonical import NUMBER
from tokka.data.records import Record, Table, broken, required_columns
from tokka.errors import TokkaError
from tokka.sections import Data, Task

DELIMITERS = (",", "\t", ";", "|")
LINES_PER_RECORD = 20_000
# So many lines of a cell are tried for an end; after them only those where an odd number of quotes says that it closes.
LINES_TRIED = 200
LOOK_AHEAD = 500
# What Excel writes before the header to say which delimiter follows.
SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?')
ESCAPED = re.compile(r'\\(["\\])')
Line = tuple[int, str]


def open_table(path: Path, task: Task, limits: Data) -> Table:
    """A delimited file; TokkaError when it cannot be trusted (see `streams.lines`), or its first line is blank.

    Where the task names its columns by numbers (from 0) that the first line does not hold, there is no header, and the
    first line is a row.
    """
    csv.field_size_limit(streams.LONGEST_LINE + 1)
    source, wanted = streams.lines(path, limits), set(required_columns(task))
    first = next(source, (1, ""))
    if SEPARATOR.fullmatch(first[1]):
        first = next(source, (2, ""))
    header, delimiter = _sniff(path, first, wanted)
    quoted = '"' in first[1]
    if all(name.isdecimal() for name in wanted) and not wanted & set(header):
        header, source = [str(place) for place in range(len(header))], itertools.chain([first], source)
        quoted = False
    return Table(header, lambda here: _Delimited(header, delimiter, here, source, quoted).records())


def _sniff(path: Path, first: Line, wanted: set[str]) -> tuple[list[str], str]:
    """The delimiter under which the header has most of the wanted columns, then most columns at all."""
    number, line = first
    if not line.strip():
        raise TokkaError(f"{path}, line {number}: the header is blank", "the first line must name the columns")
    found: list[tuple[list[str], str]] = []
    for delimiter in DELIMITERS:
        with contextlib.suppress(csv.Error):
            names = _parse([line], delimiter) or []
            found.append(([unicodedata.normalize("NFC", name.strip()) for name in names], delimiter))
    header, delimiter = max(found, key=lambda one: (len(wanted & set(one[0])), len(one[0])), default=([], ""))
    if not header:
        raise TokkaError(f"{path}, line {number}: the header's quotes do not close", "mend the quotes in the header")
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

    def __init__(self, header: list[str], delimiter: str, task: Task, source: Iterator[Line], quoted: bool) -> None:
        # Where the header has quotes, they quote.
        self.quoted = quoted
        self.header, self.delimiter, self.source = header, delimiter, source
        self.wanted = list(required_columns(task))
        self.target = header.index(task.target)
        self.number = task.type == "regression"
        self.ahead: deque[Line] = deque()
        self._look(LOOK_AHEAD)
        self.escaped, self.unquoted = self._dialect()
        whole = (line for _, line in self.ahead if '"' not in line and line.endswith("\n"))
        self.targets = {target for line in whole if (target := self._bare_target(line)) is not None}

    def records(self) -> Iterator[Record]:
        while self._look(1):
            number, line = self.ahead.popleft()
            if line.strip("\r\n"):
                yield self._record(number, line)

    def _record(self, number: int, line: str) -> Record:
        if '"' not in line or self.unquoted:
            return self._cells(number, line.rstrip("\r\n").split(self.delimiter), line)
        try:
            cells = self._parse([line])
            if cells is None:
                return self._across_lines(number, line)
        except csv.Error as error:
            return broken(number, line, f"stray quote: {error}")
        return self._cells(number, cells, line)

    def _parse(self, physical: list[str]) -> list[str] | None:
        plain = [ESCAPED.sub(_doubled, line) for line in physical] if self.escaped else physical
        return _parse(plain, self.delimiter)

    def _dialect(self) -> tuple[bool, bool]:
        """Whether quotes are escaped by a backslash, and whether they quote nothing at all.

        Lines that break RFC 4180 must show it, and more of them than are quoted as it says.
        """
        broken_lines, quoted = [], 0
        for _, line in self.ahead:
            if '"' in line:
                plain = line.rstrip("\r\n").split(self.delimiter)
                try:
                    cells = _parse([line], self.delimiter)
                except csv.Error:
                    broken_lines.append(line)
                else:
                    quoted += cells is not None and cells != plain and '\\"' not in line
                    broken_lines += [line] if cells is None else []
        whole = [line for line in broken_lines if self._fits(ESCAPED.sub(_doubled, line)) and '\\"' in line]
        if whole and not self._is_standard():
            return True, False
        bare = [line for line in broken_lines if self._bare_target(line)]
        return False, not self.quoted and self.delimiter == "\t" and len(bare) == len(broken_lines) > quoted

    def _is_standard(self) -> bool:
        """Whether the lines looked at are, together, records by RFC 4180 with every cell."""
        records = csv.reader((line for _, line in self.ahead), delimiter=self.delimiter, strict=True)
        try:
            return all(len(cells) in (0, len(self.header)) for cells in records)
        except csv.Error as error:
            return "unexpected end of data" in str(error) and len(self.ahead) >= LOOK_AHEAD

    def _fits(self, line: str) -> bool:
        with contextlib.suppress(csv.Error):
            return len(_parse([line], self.delimiter) or []) == len(self.header)
        return False

    def _across_lines(self, number: int, line: str) -> Record:
        """A quote stands open at the line's end: take lines until it closes, or give up on this one.

        One row on several lines has at most one that looks like a row: two are two rows, each with a stray quote.
        """
        physical, complete, size = [line], int(self._looks_like_row(line)), len(line)
        while len(physical) < LINES_PER_RECORD and size < streams.LONGEST_LINE and self._look(len(physical)):
            following = self.ahead[len(physical) - 1][1]
            complete += self._looks_like_row(following)
            if complete > 1:
                return broken(number, line, "stray quote: it would swallow the rows that follow")
            physical.append(following)
            size, quotes = size + len(following), following.count('"')
            may_close = quotes % 2 or (quotes and len(physical) < LINES_TRIED)
            if may_close and (cells := self._parse(physical)) is not None:
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


def _doubled(escape: re.Match[str]) -> str:
    return '""' if escape[1] == '"' else escape[1]
