"""Rows on disk, in order, and in memory of each no more than what decides about it: 13 bytes, 21 with groups."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokka.data import rows as canonical
from tokka.data.preparation import splitting
from tokka.data.rows import Row
from tokka.sections import Task

KEY = "key"
OUT = -1


class Part(NamedTuple):
    """Some rows of a pool: where they stand in it, and their columns with the keys."""

    positions: NDArray[np.int64]
    table: pa.Table

    @property
    def keys(self) -> list[str]:
        """The rows' keys."""
        return list(self.table.column(KEY).to_pylist())


class Pool:
    """The rows of one file, sorted.

    `points` as in `splitting`, `classes` by the number of their name in `names` (all 0 for regression), `groups` the
    points of rows with a group, 0 for those without; `places` their splits, OUT for a row that is left out.
    """

    def __init__(self, path: Path, batches: Iterable[list[Row]], task: Task) -> None:
        self.path, self.task = path, task
        self.names: dict[str, int] = {}
        self.lowest, self.highest = np.inf, -np.inf
        points, classes, groups = array("Q"), array("i"), array("Q")
        schema = canonical.to_table([], task).schema.append(pa.field(KEY, pa.string()))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            for batch in batches:
                keys = [splitting.key(row) for row in batch]
                stream.write_table(canonical.to_table(batch, task).append_column(KEY, [keys]), len(batch))
                found = [splitting.point(row, key) for row, key in zip(batch, keys, strict=True)]
                points.extend(found)
                classes.extend(self._classes(batch))
                if task.group:
                    groups.extend(one if row.group else 0 for one, row in zip(found, batch, strict=True))
        self.points, self.classes = np.array(points, np.uint64), np.array(classes, np.int32)
        self.groups = np.array(groups, np.uint64)
        self.places = np.full(len(self.points), OUT, np.int8)

    def __len__(self) -> int:
        return len(self.points)

    def counts(self, place: int | None = None) -> dict[str, int]:
        """Rows of each class, by name, of one split or of all; empty for regression."""
        chosen = self.classes if place is None else self.classes[self.places == place]
        found = np.bincount(chosen, minlength=len(self.names)).tolist()
        return {name: found[number] for name, number in sorted(self.names.items()) if found[number]}

    def are_of(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Of each row whether its class is one of these."""
        return np.isin(self.classes, [self.names[name] for name in names if name in self.names])

    def parts(self, place: int) -> Iterator[Part]:
        """The rows of one split, some at a time."""
        start = 0
        with pa.OSFile(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                positions = start + np.flatnonzero(self.places[start : start + batch.num_rows] == place)
                yield Part(positions, pa.Table.from_batches([batch]).take(positions - start))
                start += batch.num_rows

    def rows(self, place: int) -> Iterator[list[Row]]:
        """As `parts`, as rows."""
        return (canonical.from_table(part.table, self.task) for part in self.parts(place))

    def _classes(self, batch: list[Row]) -> list[int]:
        if self.task.type != "regression":
            return [self.names.setdefault(str(row.target), len(self.names)) for row in batch]
        targets = [float(row.target) for row in batch]
        self.lowest, self.highest = min(self.lowest, *targets), max(self.highest, *targets)
        return [0] * len(batch)
