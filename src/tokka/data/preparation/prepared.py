"""The prepared data folder, read back for training and evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import pyarrow as pa

from tokka import files
from tokka.data import rows
from tokka.errors import TokkaError


class Summary(TypedDict):
    """What is read of summary.json."""

    task: Literal["classification", "regression"]
    rows: dict[str, int]


@dataclass(frozen=True)
class Prepared:
    """Three splits with the columns row_id, text, target [, text_pair, group, time, slice_<name>].

    `labels` is sorted, and empty for regression; `digest` is over the content; `folder` is where it was read from.
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    labels: tuple[str, ...]
    task: Literal["classification", "regression"]
    digest: str
    summary: Summary
    folder: Path

    def split(self, name: str) -> pa.Table:
        """One split by its name."""
        return getattr(self, name)


def load(folder: Path) -> Prepared:
    """Read what `preprocessing.prepare` wrote; TokkaError for a file that is missing, broken or short of rows."""
    labels = tuple(files.read_json(folder / "labels.json")["labels"])
    digest, summary = files.read_json(folder / "digest.json")["digest"], files.read_json(folder / "summary.json")
    tables = {name: rows.load(folder / f"{name}.parquet") for name in ("train", "validation", "test")}
    for name, table in tables.items():
        if table.num_rows != summary["rows"][name]:
            raise TokkaError(
                f"{folder / name}.parquet has {table.num_rows} rows, summary.json says {summary['rows'][name]}",
                "prepare the data again",
            )
    return Prepared(**tables, labels=labels, task=summary["task"], digest=digest, summary=summary, folder=folder)
