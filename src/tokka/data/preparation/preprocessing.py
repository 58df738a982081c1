"""From valid rows to train, validation and test in Parquet, with label map and content digest.

Every result is a function of the rows' content alone: their order, and what wrote the files, changes no digest. However
many they are, the rows are on disk, and a batch of them in memory.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tokka import files, progress
from tokka.data import normalising
from tokka.data import rows as canonical
from tokka.data.preparation import deduplication, splitting
from tokka.data.preparation.near import Index, Sketcher
from tokka.data.preparation.ordering import in_order
from tokka.data.preparation.pool import OUT, Pool
from tokka.data.preparation.splitting import SPLITS, TEST, TRAIN, VALIDATION, Split
from tokka.data.rows import Row
from tokka.errors import Refused
from tokka.params import Params
from tokka.sections import Preprocessing, Task

# Of the largest target: below it, single precision makes steps of what should be smooth.
LEAST_SPREAD = 1e-4


class Pools(NamedTuple):
    """The rows that are split here, and the splits that came as files of their own."""

    source: Pool
    official: dict[Split, Pool]

    def of(self, place: int) -> Pool:
        """Where the rows of a split are."""
        return self.official.get(SPLITS[place], self.source)


def prepare(
    rows: Iterable[Row], official_test: Iterable[Row] | None, params: Params, out: Path,
    official_validation: Iterable[Row] | None = None,
) -> dict[str, object]:  # fmt: skip
    """Write the prepared data folder and return its summary, with `digest`.

    Raises:
        Refused: fewer than two classes remain, a split is empty, or an official file has a class of its own.
    """
    given: dict[Split, Iterable[Row] | None] = {"validation": official_validation, "test": official_test}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".prepare-") as folder:
        pools, read = _pools(rows, {name: found for name, found in given.items() if found is not None}, params, folder)
        decided = decide(pools, params)
        out.mkdir(exist_ok=True)
        each = {name: _write(out / f"{name}.parquet", pools.of(place), place) for place, name in enumerate(SPLITS)}
    labels = list(pools.of(TRAIN).counts(TRAIN))
    digests = digest(each, labels, params.task)
    summary = {**read, **decided, "digest": digests["digest"]}
    files.write_json(out / "labels.json", {"labels": labels})
    files.write_json(out / "digest.json", digests)
    files.write_json(out / "summary.json", summary)
    return summary


def digest(each: Mapping[Split, str], labels: list[str], task: Task) -> dict[str, object]:
    """The content digest of prepared data, from that of each split, which it keeps."""
    return {"digest": files.digest_json({"labels": labels, "splits": each, "task": task.type}), "splits": each}


def decide(pools: Pools, params: Params) -> dict[str, object]:
    """Drop small classes, split, and remove what ties training to test rows: the rows' `places`, counted."""
    small = _split(pools, params)
    dropped = sum(int((pool.places == OUT).sum()) for pool in [pools.source, *pools.official.values()])
    strangers = _drop_test_groups(pools)
    near = _drop_near(pools, params.preprocessing)
    progress.report("preprocess", f"{near:,} near-duplicates removed across splits")
    labels = list(pools.of(TRAIN).counts(TRAIN))
    lost = _drop_untrained(pools, labels)
    _check_splits(pools, labels, params)
    return {
        "alike_labels": _alike(labels),
        "near_duplicates": near,
        "rows_of_test_groups": strangers,
        "dropped_classes": small | lost,
        "dropped_rows": dropped + sum(lost.values()),
        **_describe(pools, labels, params.task),
    }


def _pools(
    rows: Iterable[Row], given: Mapping[Split, Iterable[Row]], params: Params, folder: str
) -> tuple[Pools, dict[str, object]]:
    """All rows normalised and in order, those that are split here merged; and how many were read and merged."""
    place, read = Path(folder), 0

    def ordered(name: str, found: Iterable[Row]) -> Iterator[Row]:
        return in_order(_normalised(counted(found), params), params.task, place / name)

    def counted(found: Iterable[Row]) -> Iterator[Row]:
        nonlocal read
        for row in found:
            read += 1
            yield row

    source, official = ordered("source", rows), {name: ordered(name, found) for name, found in given.items()}
    progress.report("preprocess", f"{read:,} rows normalised")
    merged = deduplication.Merging()
    single = canonical.batches(source) if params.preprocessing.deduplicate == "none" else merged.batches(source)
    # An official split is taken as it is, duplicates included: its scores are compared with those of others.
    pools = Pools(
        Pool(place / "source.arrow", single, params.task),
        {
            name: Pool(place / f"{name}.arrow", canonical.batches(found), params.task)
            for name, found in official.items()
        },
    )
    return pools, {"read": read, **merged.counts()}


def _normalised(rows: Iterable[Row], params: Params) -> Iterator[Row]:
    if not params.preprocessing.normalise:
        return iter(rows)
    clean = normalising.normalise
    cleaned = (row._replace(text=clean(row.text), text_pair=clean(row.text_pair)) for row in rows)
    return (row for row in cleaned if row.text)


def _split(pools: Pools, params: Params) -> dict[str, int]:
    """Give every row its split, but those of the small classes, which are returned with their rows."""
    source, settings = pools.source, params.preprocessing
    small = {name: size for name, size in source.counts().items() if size < settings.minimum_class_size}
    _check_classes(pools, small, params)
    fills = params.task.type == "classification" and not source.groups.any()
    shares = {"validation_share": settings.validation_share, "test_share": settings.test_share}
    classes = source.classes if fills else None
    source.places = splitting.split(source.points, classes, **shares, official=list(pools.official))
    for name, pool in pools.official.items():
        pool.places[:] = SPLITS.index(name)
    for pool in (source, *pools.official.values()):
        pool.places[pool.are_of(small)] = OUT
    return small


def _alike(labels: Iterable[str]) -> list[list[str]]:
    """Labels that differ in case or punctuation alone: most likely one class, which `data.labels` can make of them."""
    found: dict[str, list[str]] = {}
    for label in labels:
        found.setdefault(normalising.key(label), []).append(label)
    return [names for names in found.values() if len(names) > 1]


def _check_classes(pools: Pools, small: dict[str, int], params: Params) -> None:
    if params.task.type == "regression":
        _check_spread(pools.source.lowest, pools.source.highest)
        return
    classes = pools.source.counts().keys() - small
    if len(classes) < 2:
        minimum = params.preprocessing.minimum_class_size
        dropped = (
            f"; {len(small)} more have fewer than preprocessing.minimum_class_size = {minimum} rows" if small else ""
        )
        named = ", ".join(repr(label) for label in sorted(classes)) or "none"
        raise Refused(
            f"classification needs at least 2 classes, found {len(classes)} ({named}){dropped}",
            "check task.target in params.yaml, add rows, or lower preprocessing.minimum_class_size",
        )
    for split, pool in pools.official.items():
        if alien := {name: count for name, count in pool.counts().items() if name not in classes | small.keys()}:
            name, count = min(alien.items())
            raise Refused(
                f"data.{split} has {len(alien)} classes that data.source lacks, such as {name!r} ({count} rows)",
                "add training rows for them, say what became of them in data.labels, or take them out of the file",
            )


def _check_spread(lowest: float, highest: float) -> None:
    if lowest >= highest:
        raise Refused("the target has one value only: there is nothing to learn", "check task.target in params.yaml")
    if highest - lowest < LEAST_SPREAD * max(abs(lowest), abs(highest)):
        raise Refused(
            f"the targets, from {lowest:g} to {highest:g}, differ by less than a model can tell apart",
            "subtract their mean: models compute in single precision, with seven digits",
        )


def _drop_test_groups(pools: Pools) -> int:
    """Leave out training and validation rows whose group is tested (an official test brings such); count them."""
    tested, removed = pools.of(TEST), 0
    groups = np.unique(tested.groups[tested.places[: len(tested.groups)] == TEST])
    for pool in {pools.of(TRAIN), pools.of(VALIDATION)}:
        trained = np.isin(pool.places, (TRAIN, VALIDATION))[: len(pool.groups)]
        strange = np.flatnonzero(trained & (pool.groups > 0) & np.isin(pool.groups, groups))
        pool.places[strange] = OUT
        removed += len(strange)
    if removed:
        progress.report("preprocess", f"{removed:,} rows removed whose group is tested")
    return removed


def _drop_near(pools: Pools, settings: Preprocessing) -> int:
    """Leave out validation rows that nearly are a test row, and training rows that nearly are either; count them.

    Near-duplicates inside one split stay: people do write alike.
    """
    if settings.deduplicate == "none":
        return 0
    threshold = settings.near_threshold if settings.deduplicate == "near" else None
    sketcher, indexes, removed = Sketcher(threshold), list[Index](), 0
    for place in (TEST, VALIDATION, TRAIN):
        index, pool = Index(threshold), pools.of(place)
        for part in pool.parts(place):
            keys = part.keys
            sketches, near = sketcher.sketch(keys), np.zeros(len(keys), bool)
            for held in indexes:
                near |= held.near(keys, sketches)
            pool.places[part.positions[near]] = OUT
            removed += int(near.sum())
            if place != TRAIN:
                index.add(list(compress(keys, ~near)), sketches.where(~near))
        indexes.append(index)
    return removed


def _drop_untrained(pools: Pools, labels: list[str]) -> dict[str, int]:
    """A class whose training rows all were near-duplicates of test rows cannot be judged: out, and named."""
    lost: Counter[str] = Counter()
    for place in (VALIDATION, TEST):
        pool = pools.of(place)
        found = {name: count for name, count in pool.counts(place).items() if name not in labels}
        pool.places[(pool.places == place) & pool.are_of(found)] = OUT
        lost.update(found)
    return dict(sorted(lost.items()))


def _check_splits(pools: Pools, labels: list[str], params: Params) -> None:
    found = _sizes(pools)
    if not all(found.values()) or (params.task.type == "classification" and len(labels) < 2):
        sizes = ", ".join(f"{name} {size}" for name, size in found.items())
        raise Refused(
            f"too few rows to split: {sizes}, {len(labels)} classes with training rows",
            "add rows, or change preprocessing.validation_share and preprocessing.test_share",
        )


def _sizes(pools: Pools) -> dict[str, int]:
    return {name: int((pools.of(place).places == place).sum()) for place, name in enumerate(SPLITS)}


def _describe(pools: Pools, labels: list[str], task: Task) -> dict[str, object]:
    classes = {name: pools.of(place).counts(place) for place, name in enumerate(SPLITS)}
    absent = {name: [label for label in labels if label not in counts] for name, counts in classes.items()}
    return {
        "task": task.type,
        "rows": _sizes(pools),
        "classes": {} if task.type == "regression" else classes,
        "classes_absent": {name: missing for name, missing in absent.items() if missing},
    }


def _write(path: Path, pool: Pool, place: int) -> str:
    """Write the rows of a split; their digest."""
    total, columns = hashlib.sha256(), canonical.to_table([], pool.task)
    with canonical.writing(path, columns.add_column(0, "row_id", pa.array([], pa.string())).schema) as append:
        for rows in pool.rows(place):
            identities = pa.array([canonical.row_id(row) for row in rows], pa.string())
            append(canonical.to_table(rows, pool.task).add_column(0, "row_id", identities))
            total.update(b"".join(map(canonical.line, rows)))
    return total.hexdigest()
