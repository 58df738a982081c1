"""One row per text: exact duplicates become one."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from tokka.data import rows as canonical
from tokka.data.rows import Row

EXAMPLES, EXAMPLE_CHARACTERS = 10, 200


class Merged(NamedTuple):
    """Rows without exact duplicates, sorted; how many went; and of the texts with more than one target how many, and
    the first of them: {"text", "targets": rows of each, "kept"}.
    """

    rows: list[Row]
    duplicates: int
    conflicts: int
    examples: list[dict[str, object]]


def merge(rows: Iterable[Row]) -> Merged:
    """One row for each text (and pair), whatever the order of the rows.

    Of conflicting labels the most frequent stays, then the most recent, then the first in the alphabet; of numbers the
    mean.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.text, row.text_pair), []).append(row)
    merged = sorted(members[0] if len(members) == 1 else _one_of(members) for members in groups.values())
    total = sum(len(members) for members in groups.values())
    conflicts = sorted(key for key, members in groups.items() if len({row.target for row in members}) > 1)
    examples = [_conflict(groups[key]) for key in conflicts[:EXAMPLES]]
    return Merged(merged, total - len(merged), len(conflicts), examples)


class Merging:
    """`merge` for rows in order, however many: what it found is counted over all batches."""

    def __init__(self) -> None:
        self.duplicates = self.conflicts = 0
        self.examples: list[dict[str, object]] = []

    def batches(self, ordered: Iterable[Row]) -> Iterator[list[Row]]:
        """The merged rows, in order."""
        for batch in _whole_texts(ordered):
            found = merge(batch)
            self.duplicates += found.duplicates
            self.conflicts += found.conflicts
            self.examples += found.examples[: EXAMPLES - len(self.examples)]
            yield found.rows

    def counts(self) -> dict[str, object]:
        """As summary.json names them."""
        found = {"exact_duplicates": self.duplicates, "conflicting_targets": self.conflicts}
        return {**found, "conflicts": self.examples}


def _whole_texts(ordered: Iterable[Row]) -> Iterator[list[Row]]:
    """Batches, those of one text and pair in the same one, so that each can be merged alone."""
    batch: list[Row] = []
    characters = 0
    for (text, pair), members in groupby(ordered, key=lambda row: row[:2]):
        if len(batch) >= canonical.BATCH_ROWS or characters >= canonical.BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch += members
        characters += len(text) + len(pair)
    if batch:
        yield batch


def _conflict(members: list[Row]) -> dict[str, object]:
    count = Counter(str(row.target) for row in members)
    kept = str(_one_of(members).target)
    return {"text": members[0].text[:EXAMPLE_CHARACTERS], "targets": dict(sorted(count.items())), "kept": kept}


def _one_of(members: list[Row]) -> Row:
    if isinstance(members[0].target, float):
        return min(members)._replace(target=math.fsum(float(row.target) for row in members) / len(members))
    count = Counter(row.target for row in members)
    latest = {target: max(row.time for row in members if row.target == target) for target in count}
    # The first of the largest: of equals the first in the alphabet.
    best = max(sorted(count, key=str), key=lambda target: (count[target], latest[target]))
    return min(row for row in members if row.target == best)
