"""The labelled feedback of the request log as one Parquet file, named by what is in it.

The same rows give the same file: the digest is over the rows, since Parquet's bytes differ between library versions.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from tokka import files, objects
from tokka.data import rows as tables
from tokka.monitoring.drift.windows import Labelled
from tokka.settings import Settings


def digest_of(rows: Sequence[Labelled]) -> str:
    """The content digest of labelled rows; empty for none."""
    return files.digest_json(rows) if rows else ""


def publish(rows: Sequence[Labelled], settings: Settings) -> str:
    """Write a snapshot where every task of a run finds it: its path, or its address in an archive in S3."""
    path = write(rows, settings.home / "snapshots")
    if path is None or not objects.is_remote(settings.archive):
        return str(path or "")
    address = objects.join(settings.archive, f"snapshots/{path.name}")
    objects.write(path, address)
    return address


def write(rows: Sequence[Labelled], folder: Path) -> Path | None:
    """Write text, label, time (and text_pair) to `folder/<digest>.parquet`; None when there are no rows."""
    if not rows:
        return None
    target = folder / f"{digest_of(rows)}.parquet"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        times = [datetime.fromtimestamp(row["time"], UTC).isoformat(timespec="seconds") for row in rows]
        # All numbers for a regression, all text otherwise: one column has one type.
        numeric = all(isinstance(row["label"], int | float) and not isinstance(row["label"], bool) for row in rows)
        labels = [float(row["label"]) if numeric else str(row["label"]) for row in rows]
        columns = {"text": [row["text"] for row in rows], "label": labels, "time": times}
        if any("text_pair" in row for row in rows):
            columns["text_pair"] = [row.get("text_pair") for row in rows]
        tables.write(target, pa.table(columns))
    return target
