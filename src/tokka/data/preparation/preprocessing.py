"""From valid rows to train, validation and test in Parquet, with label map, drift baseline and content digest.

    prepare(rows, official_test, params, out)       # rows: list[Row]; official_test: list[Row] or None

Every result is a function of the rows' content alone: their order, and what wrote the files, changes no digest.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tokka import files, progress
from tokka.data import normalising
from tokka.data import rows as canonical
from tokka.data.preparation import baseline, deduplication, splitting
from tokka.data.preparation.splitting import SPLITS, Split
from tokka.data.rows import Row
from tokka.errors import Refused
from tokka.params import Params, Task


class Result(NamedTuple):
    """The rows of each split, sorted, the labels, and the counts of what was done."""

    splits: dict[Split, list[Row]]
    labels: list[str]
    summary: dict[str, Any]


def prepare(rows: Sequence[Row], official_test: Sequence[Row] | None, params: Params, out: Path) -> dict[str, Any]:
    """Write the prepared data folder and return its summary, with `digest`.

    Raises:
        Refused: fewer than two classes remain, a split is empty, or the official test has a class of its own.
    """
    result = decide(rows, official_test, params)
    out.mkdir(parents=True, exist_ok=True)
    digests = digest(result.splits, result.labels, params.task)
    for name, members in result.splits.items():
        canonical.write(out / f"{name}.parquet", _table(members, params.task))
    summary = {**result.summary, "digest": digests["digest"]}
    files.write_json(out / "labels.json", {"labels": result.labels})
    files.write_json(out / "baseline.json", baseline.describe(result.splits["validation"]))
    files.write_json(out / "digest.json", digests)
    files.write_json(out / "summary.json", summary)
    return summary


def digest(splits: dict[Split, list[Row]], labels: list[str], task: Task) -> dict[str, Any]:
    """The content digest of prepared data, and that of each split."""
    each = {name: canonical.digest(members) for name, members in splits.items()}
    return {"digest": files.digest_json({"labels": labels, "splits": each, "task": task.type}), "splits": each}


def decide(rows: Sequence[Row], official_test: Sequence[Row] | None, params: Params) -> Result:
    """Normalise, merge, drop small classes, split, and remove what ties training to test rows; writes nothing."""
    task, settings = params.task, params.preprocessing
    source, test = _normalised(rows, params), _normalised(official_test or [], params)
    progress.report("preprocess", f"{len(source) + len(test):,} rows normalised")
    unmerged = deduplication.Merged(sorted(source), 0, 0)
    merged = unmerged if settings.deduplicate == "none" else deduplication.merge(source)
    sizes = _classes(merged.rows, task)
    small = {label: count for label, count in sizes.items() if count < settings.minimum_class_size}
    kept = [row for row in merged.rows if row.target not in small]
    # An official test is taken as it is, duplicates included: its scores are compared with those of others.
    official = [row for row in sorted(test) if row.target not in small]
    _check_classes(kept, official, small, params)
    everything, splits, strangers = _without_test_groups(*_split(kept, official, params))
    stays = _stays(everything, splits, params)
    progress.report("preprocess", f"{len(stays) - sum(stays):,} near-duplicates removed across splits")
    found = _collect(everything, splits, stays)
    labels = list(_classes(found["train"], task))
    lost = _drop_untrained(found, labels, task)
    _check_splits(found, labels, params)
    counts = {
        "read": len(rows) + len(official_test or []),
        "exact_duplicates": merged.duplicates,
        "conflicting_targets": merged.conflicts,
        "near_duplicates": len(stays) - sum(stays),
        "rows_of_test_groups": strangers,
        "dropped_classes": small | lost,
        "dropped_rows": len(merged.rows) + len(test) - len(everything) - strangers + sum(lost.values()),
    }
    return Result(found, labels, {**counts, **_describe(found, labels, task)})


def _normalised(rows: Sequence[Row], params: Params) -> list[Row]:
    if not params.preprocessing.normalise:
        return list(rows)
    clean = normalising.normalise
    cleaned = (row._replace(text=clean(row.text), text_pair=clean(row.text_pair)) for row in rows)
    return [row for row in cleaned if row.text]


def _classes(rows: Iterable[Row], task: Task) -> dict[str, int]:
    """Rows per class, sorted by class; empty for regression."""
    return dict(sorted(Counter(str(row.target) for row in rows if task.type != "regression").items()))


def _check_classes(kept: list[Row], official: list[Row], small: dict[str, int], params: Params) -> None:
    if params.task.type == "regression":
        if len({row.target for row in kept}) < 2:
            raise Refused(
                "the target has one value only: there is nothing to learn", "check task.target in params.yaml"
            )
        return
    classes = {row.target for row in kept}
    if len(classes) < 2:
        minimum = params.preprocessing.minimum_class_size
        dropped = (
            f"; {len(small)} more have fewer than preprocessing.minimum_class_size = {minimum} rows" if small else ""
        )
        named = ", ".join(repr(label) for label in sorted(map(str, classes))) or "none"
        raise Refused(
            f"classification needs at least 2 classes, found {len(classes)} ({named}){dropped}",
            "check task.target in params.yaml, add rows, or lower preprocessing.minimum_class_size",
        )
    alien = Counter(str(row.target) for row in official if row.target not in classes)
    if alien:
        name, count = min(alien.items())
        raise Refused(
            f"data.test has {len(alien)} classes that data.source lacks, such as {name!r} ({count} rows)",
            "add training rows for them, or take them out of the test file",
        )


def _split(kept: list[Row], official: list[Row], params: Params) -> tuple[list[Row], list[Split]]:
    shares = {name: getattr(params.preprocessing, name) for name in ("validation_share", "test_share")}
    splits = splitting.split(kept, **shares, official_test=bool(params.data.test))
    return kept + official, splits + ["test"] * len(official)


def _without_test_groups(rows: list[Row], splits: list[Split]) -> tuple[list[Row], list[Split], int]:
    """Rows and splits without the training and validation rows whose group is tested, and how many those were.

    Only an official test brings such rows: the hash keeps the groups of one file together.
    """
    tested = {row.group for row, split in zip(rows, splits, strict=True) if split == "test" and row.group}
    stays = [split == "test" or row.group not in tested for row, split in zip(rows, splits, strict=True)]
    if removed := len(stays) - sum(stays):
        progress.report("preprocess", f"{removed:,} rows removed whose group is in data.test")
    return list(compress(rows, stays)), list(compress(splits, stays)), removed


def _stays(rows: list[Row], splits: list[Split], params: Params) -> list[bool]:
    mode = params.preprocessing.deduplicate
    if mode == "none":
        return [True] * len(rows)
    return deduplication.across_splits(rows, splits, params.preprocessing.near_threshold if mode == "near" else None)


def _collect(rows: list[Row], splits: list[Split], stays: list[bool]) -> dict[Split, list[Row]]:
    placed = list(zip(rows, splits, stays, strict=True))
    return {name: sorted(row for row, split, stay in placed if stay and split == name) for name in SPLITS}


def _drop_untrained(found: dict[Split, list[Row]], labels: list[str], task: Task) -> dict[str, int]:
    """A class whose training rows all were near-duplicates of test rows cannot be judged: out, and named."""
    untrained = {row.target for members in found.values() for row in members}.difference(labels)
    if task.type == "regression" or not untrained:
        return {}
    lost = _classes((row for members in found.values() for row in members if row.target in untrained), task)
    for name, members in found.items():
        found[name] = [row for row in members if row.target not in untrained]
    return lost


def _check_splits(found: dict[Split, list[Row]], labels: list[str], params: Params) -> None:
    if not all(found.values()) or (params.task.type == "classification" and len(labels) < 2):
        sizes = ", ".join(f"{name} {len(members)}" for name, members in found.items())
        raise Refused(
            f"too few rows to split: {sizes}, {len(labels)} classes with training rows",
            "add rows, or change preprocessing.validation_share and preprocessing.test_share",
        )


def _describe(found: dict[Split, list[Row]], labels: list[str], task: Task) -> dict[str, object]:
    classes = {name: _classes(members, task) for name, members in found.items()}
    absent = {name: [label for label in labels if label not in counts] for name, counts in classes.items()}
    return {
        "task": task.type,
        "rows": {name: len(members) for name, members in found.items()},
        "classes": {} if task.type == "regression" else classes,
        "classes_absent": {name: missing for name, missing in absent.items() if missing},
    }


def _table(rows: list[Row], task: Task) -> pa.Table:
    identities = pa.array([canonical.row_id(row) for row in rows], pa.string())
    return canonical.to_table(rows, task).add_column(0, "row_id", identities)
