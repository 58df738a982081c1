"""Rows in order, however many: sorted batches on disk, merged while they are read."""

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from tokka.data import rows as canonical
from tokka.data.rows import Row
from tokka.sections import Task

# So many rows of each sorted batch are in memory while all are merged.
RUN_ROWS = 512


def in_order(rows: Iterable[Row], task: Task, folder: Path) -> Iterator[Row]:
    """The rows as `sorted` gives them; `folder`, which is made, takes the sorted batches."""
    folder.mkdir()
    runs: list[Path] = []
    for batch in canonical.batches(rows):
        runs.append(folder / f"{len(runs)}.arrow")
        table = canonical.to_table(sorted(batch), task)
        with pa.OSFile(str(runs[-1]), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=RUN_ROWS)
    return heapq.merge(*(_read(run, task) for run in runs))


def _read(run: Path, task: Task) -> Iterator[Row]:
    with pa.OSFile(str(run)) as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            yield from canonical.from_table(pa.Table.from_batches([batch]), task)
