"""The labelled feedback of the request log as one Parquet file, named by what is in it.

    path = write(labelled(records), settings.home / "snapshots")

The same rows give the same file: the digest is over the rows, since Parquet's bytes differ between library versions.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from tokka import files
from tokka.data import rows as tables
from tokka.monitoring.drift.windows import Labelled


def digest_of(rows: Sequence[Labelled]) -> str:
    """The content digest of labelled rows; empty for none."""
    return files.digest_json(rows) if rows else ""


def write(rows: Sequence[Labelled], folder: Path) -> Path | None:
    """Write text, label, time (and text_pair) to `folder/<digest>.parquet`; None when there are no rows."""
    if not rows:
        return None
    target = folder / f"{digest_of(rows)}.parquet"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        times = [datetime.fromtimestamp(row["time"], UTC).isoformat(timespec="seconds") for row in rows]
        columns: dict[str, list[object]] = {
            "text": [row["text"] for row in rows],
            "label": _labels(rows),
            "time": [*times],
        }
        if any("text_pair" in row for row in rows):
            columns["text_pair"] = [row.get("text_pair") for row in rows]
        tables.write(target, pa.table(columns))
    return target


def _labels(rows: Sequence[Labelled]) -> list[object]:
    """All numbers for a regression, all text otherwise: one column has one type."""
    numeric = all(isinstance(row["label"], int | float) and not isinstance(row["label"], bool) for row in rows)
    return [float(row["label"]) if numeric else str(row["label"]) for row in rows]
