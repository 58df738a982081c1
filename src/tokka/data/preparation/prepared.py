"""The prepared data folder, read back for training and evaluation.

prepared = load(folder)
prepared.train.num_rows, prepared.labels, prepared.digest
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tokka import files
from tokka.data import rows
from tokka.errors import TokkaError


@dataclass(frozen=True)
class Prepared:
    """Three splits with the columns row_id, text, target [, text_pair, group, time, slice_<name>].

    `labels` is sorted, and empty for regression; `digest` is the content digest, 64 hexadecimal digits; `folder` is
    where it was read from.
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    labels: tuple[str, ...]
    task: Literal["classification", "regression"]
    digest: str
    summary: dict[str, Any]
    folder: Path

    def split(self, name: str) -> pa.Table:
        """One split by its name."""
        return getattr(self, name)


def load(folder: Path) -> Prepared:
    """Read what `preprocessing.prepare` wrote.

    Raises:
        TokkaError: a file is missing or broken, or a split does not have the rows that the digest was made of.
    """
    labels = tuple(files.read_json(folder / "labels.json")["labels"])
    digest = files.read_json(folder / "digest.json")
    summary = files.read_json(folder / "summary.json")
    tables = {name: rows.load(folder / f"{name}.parquet") for name in ("train", "validation", "test")}
    for name, table in tables.items():
        if table.num_rows != summary["rows"][name]:
            raise TokkaError(
                f"{folder / name}.parquet has {table.num_rows} rows, summary.json says {summary['rows'][name]}",
                "prepare the data again",
            )
    facts = {"task": summary["task"], "digest": digest["digest"], "summary": summary}
    return Prepared(**tables, **facts, labels=labels, folder=folder)
