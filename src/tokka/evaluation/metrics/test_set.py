"""The frozen test rows as evaluation needs them, the same for every model that is measured."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tokka import files
from tokka.data.normalising import key
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.slices import Slice, find_slices


@dataclass(frozen=True, eq=False)
class TestSet:
    """Rows, truths and slices.

    `classes` is every class that the data or any measured model knows, in the order of the score columns; empty for
    regression. `target` is (rows,): numbers of classes, or the values to predict. `scale` turns a margin into the
    metric's unit: 1 for classification, the standard deviation of the targets for regression.
    """

    __test__ = False

    table: pa.Table
    texts: list[str]
    pairs: list[str] | None
    target: Integers | Floats
    classes: tuple[str, ...]
    digest: str
    scale: float
    slices: list[Slice]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.texts)

    @property
    def classification(self) -> bool:
        """Whether the truths are classes."""
        return bool(self.classes)

    def take(self, rows: Integers) -> "TestSet":
        """Some of the rows, by number and without slices."""
        seconds = [self.pairs[row] for row in rows] if self.pairs is not None else None
        texts = [self.texts[row] for row in rows]
        table, target = self.table.take(pa.array(rows)), self.target[rows]
        return replace(self, table=table, texts=texts, pairs=seconds, target=target, slices=[])

    def align(self, scores: Floats, labels: Sequence[str]) -> Floats:
        """Scores over `classes`, matched by name: a class that the model does not know is a column of zeros.

        Two labels of one name, as a merged class has them, add up. TokkaError when the scores have another width than
        the model's labels.
        """
        if not self.classification:
            return np.asarray(scores, np.float64).reshape(self.rows, -1)[:, :1]
        if scores.ndim != 2 or scores.shape[1] != len(labels):
            raise TokkaError(f"a model with {len(labels)} labels gave scores of shape {scores.shape}")
        aligned = np.zeros((len(scores), len(self.classes)))
        for column, label in enumerate(labels):
            aligned[:, self.classes.index(label)] += scores[:, column]
        return aligned


def open_test(data: Prepared, extra_labels: Sequence[str], minimum_rows: int) -> TestSet:
    """The test split of a prepared data set.

    `extra_labels`: classes that a measured model knows and the data no longer has. TokkaError when there are no test
    rows.
    """
    if not data.test.num_rows:
        raise TokkaError("there is no test row to evaluate on", "raise preprocessing.test_share or name data.test")
    return of_table(data.test, data.task, data.labels, extra_labels, minimum_rows)


def of_table(
    table: pa.Table, task: str, labels: tuple[str, ...], extra_labels: Sequence[str], minimum_rows: int
) -> TestSet:
    """The same from the rows themselves and the data's labels."""
    truths = table.column("target").to_pylist()
    classes: tuple[str, ...] = ()
    if task == "classification":
        classes = (*labels, *sorted(set(extra_labels) - set(labels)))
    return TestSet(
        table=table,
        texts=table.column("text").to_pylist(),
        pairs=pairs(table),
        target=_numbers(truths, classes) if classes else np.asarray(truths, np.float64),
        classes=classes,
        digest=digest(table),
        scale=1.0 if classes else max(float(np.std(truths)), np.finfo(np.float64).tiny),
        slices=find_slices(table, truths if classes else None, minimum_rows),
    )


def with_slices(test: TestSet, more: Sequence[Slice]) -> TestSet:
    """The same rows with more slices."""
    return replace(test, slices=[*test.slices, *more])


def pairs(table: pa.Table) -> list[str] | None:
    """The second texts, when the task has them."""
    return list(table.column("text_pair").to_pylist()) if "text_pair" in table.column_names else None


def sample_rows(rows: int, most: int, seed: int) -> Integers:
    """Sorted row numbers: all, or a seeded sample of `most` of them."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def digest(table: pa.Table) -> str:
    """The sha256 over row ids and truths in the order of the ids: the same rows give it in any file."""
    rows = zip(table.column("row_id").to_pylist(), table.column("target").to_pylist(), strict=True)
    return files.digest_json(sorted([list(row) for row in rows], key=str))


def training_rows(data: Prepared) -> dict[str, Integers]:
    """64-bit hashes of the ids and of what the texts read like, of every row of training and validation."""
    tables = (data.train, data.validation)
    ids = (row for table in tables for row in table.column("row_id").to_pylist())
    return {"row_ids": _hashes(ids), "texts": _hashes(one for table in tables for one in keys(table))}


def overlap(data: Prepared) -> dict[str, int]:
    """How many test rows training or validation holds too: by id, and by what the texts read like."""
    known = training_rows(data)
    return overlap_of(data.test, known["row_ids"], known["texts"])


def overlap_of(table: pa.Table, row_ids: Integers, texts: Integers) -> dict[str, int]:
    """The same from the test rows and the hashes of `training_rows`."""
    own = {"row_ids": _hashes(table.column("row_id").to_pylist()), "texts": _hashes(keys(table))}
    return {name: int(np.isin(own[name], known).sum()) for name, known in (("row_ids", row_ids), ("texts", texts))}


def keys(table: pa.Table) -> list[tuple[str, str]]:
    """What each row's texts read like."""
    texts = [key(text) for text in table.column("text").to_pylist()]
    seconds = pairs(table)
    return list(zip(texts, [key(text) for text in seconds] if seconds else [""] * len(texts), strict=True))


def _hashes(values: Iterable[object]) -> Integers:
    found = (hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest() for value in values)
    return np.frombuffer(b"".join(found), np.int64)


def _numbers(truths: Sequence[str], classes: tuple[str, ...]) -> Integers:
    numbers = {label: number for number, label in enumerate(classes)}
    unknown = sorted(set(truths) - set(numbers))
    if unknown:
        raise TokkaError(f"test rows have the class {unknown[0]!r}, which labels.json lacks", "prepare the data again")
    return np.array([numbers[truth] for truth in truths], dtype=np.int64)
