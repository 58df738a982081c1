"""The labelled feedback of the request log as one Parquet file, named by what is in it.

    path, digest = write(labelled(records), settings.home / "snapshots")

The same rows give the same file: the digest is over the rows, since Parquet's bytes differ between library versions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokka import files

Rows = Sequence[Mapping[str, Any]]


def digest_of(rows: Rows) -> str:
    """The content digest of labelled rows; empty for none."""
    return files.digest_json([dict(row) for row in rows]) if rows else ""


def write(rows: Rows, folder: Path) -> Path | None:
    """Write text, label, time (and text_pair) to `folder/<digest>.parquet`; None when there are no rows."""
    if not rows:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / f"{digest_of(rows)}.parquet"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        columns: dict[str, list[Any]] = {"text": [row["text"] for row in rows], "label": _labels(rows)}
        columns["time"] = [datetime.fromtimestamp(row["time"], UTC).isoformat(timespec="seconds") for row in rows]
        if any("text_pair" in row for row in rows):
            columns["text_pair"] = [row.get("text_pair") for row in rows]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        files.write_bytes(target, sink.getvalue().to_pybytes())
    return target


def _labels(rows: Rows) -> list[Any]:
    """All numbers for a regression, all text otherwise: one column has one type."""
    numeric = all(isinstance(row["label"], int | float) and not isinstance(row["label"], bool) for row in rows)
    return [float(row["label"]) if numeric else str(row["label"]) for row in rows]
