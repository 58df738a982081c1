"""One row per text, and no training row that nearly is a test row.

Exact duplicates become one row. Near-duplicates inside one split stay (people do write alike); across splits the
row of the weaker split goes: training gives way to validation, both give way to test. A test row never goes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from tokka.data import normalising
from tokka.data.preparation.splitting import Split
from tokka.data.rows import Row

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 3
PERMUTATIONS = 64
HASH_SEED = 1
# A miss costs a leak, a false candidate only one set intersection.
HIGHEST_MISS = 1e-3


class Merged(NamedTuple):
    """Rows without exact duplicates, sorted; how many went, and how many texts had more than one target."""

    rows: list[Row]
    duplicates: int
    conflicts: int


def merge(rows: Iterable[Row]) -> Merged:
    """One row for each text (and pair), whatever the order of the rows.

    Of conflicting labels the most frequent stays, then the most recent, then the first in the alphabet; of
    conflicting numbers the mean.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.text, row.text_pair), []).append(row)
    merged = sorted(members[0] if len(members) == 1 else _one_of(members) for members in groups.values())
    total = sum(len(members) for members in groups.values())
    conflicts = sum(len({row.target for row in members}) > 1 for members in groups.values() if len(members) > 1)
    return Merged(merged, total - len(merged), conflicts)


def across_splits(rows: Sequence[Row], splits: Sequence[Split], threshold: float | None) -> list[bool]:
    """Whether each row may stay: no validation row is near a test row, no training row near either.

    Args:
        threshold: Jaccard similarity of character trigrams from which two texts are near; None: only texts that
            are equal but for case and punctuation.
    """
    keys = [_key(row) for row in rows]
    stays = [True] * len(rows)
    for winners, losers in (({"test"}, {"validation", "train"}), ({"validation"}, {"train"})):
        kept = [index for index, split in enumerate(splits) if split in winners and stays[index]]
        asked = [index for index, split in enumerate(splits) if split in losers and stays[index]]
        near = _near({keys[index] for index in kept}, {keys[index] for index in asked}, threshold)
        for index in asked:
            stays[index] = keys[index] not in near
    return stays


def shingles(key: str) -> frozenset[str]:
    """The character trigrams of a key, word ends included."""
    padded = f" {key} "
    return frozenset(padded[start : start + SHINGLE] for start in range(max(1, len(padded) - SHINGLE + 1)))


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two sets, in [0, 1]."""
    return len(left & right) / len(left | right)


def near_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs (first, second, similarity) of texts that are equal but for case and punctuation, or nearly so.

    Args:
        threshold: Jaccard similarity of character trigrams from which two texts are near.

    Returns:
        first < second, the most similar pairs first; MinHash proposes them, and may miss one in a thousand.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(normalising.key(text), []).append(place)
    index = _Index(threshold)
    found = []
    for key, members in places.items():
        found += [(one, other, 1.0) for one, other in combinations(members, 2)]
        for near, alike in index.alike(key).items():
            found += [(min(one, other), max(one, other), alike) for one in members for other in places[near]]
        index.add([key])
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def bands(threshold: float) -> tuple[int, int]:
    """Bands and rows per band of the index: the fewest candidates at which a pair at the threshold is hardly missed."""
    for rows in range(PERMUTATIONS // 4, 1, -1):
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= HIGHEST_MISS:
            return count, rows
    return PERMUTATIONS, 1


def _key(row: Row) -> str:
    return normalising.key(row.text) + ("\n" + normalising.key(row.text_pair) if row.text_pair else "")


def _near(kept: set[str], asked: set[str], threshold: float | None) -> set[str]:
    """Which of the asked keys equal or nearly equal a kept one."""
    equal = kept & asked
    if threshold is None or not kept or not asked:
        return equal
    index = _Index(threshold)
    index.add(sorted(kept))
    return equal | {key for key in asked - equal if index.alike(key)}


class _Index:
    """Keys by their trigrams: MinHash LSH proposes, the exact similarity decides."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self.sets: dict[str, frozenset[str]] = {}
        self.empty = MinHash(num_perm=PERMUTATIONS, seed=HASH_SEED)
        self.lsh = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))

    def add(self, keys: Iterable[str]) -> None:
        with self.lsh.insertion_session() as session:
            for key in keys:
                self.sets[key] = shingles(key)
                session.insert(key, self._minhash(self.sets[key]), check_duplication=False)

    def alike(self, key: str) -> dict[str, float]:
        """The indexed keys that are at least as similar as the threshold, and how similar."""
        found = shingles(key)
        near = {other: similarity(found, self.sets[other]) for other in self.lsh.query(self._minhash(found))}
        return {other: value for other, value in near.items() if value >= self.threshold}

    def _minhash(self, found: frozenset[str]) -> "MinHash":
        made = self.empty.copy()
        made.update_batch([shingle.encode() for shingle in sorted(found)])
        return made


def _one_of(members: list[Row]) -> Row:
    if isinstance(members[0].target, float):
        return min(members)._replace(target=math.fsum(float(row.target) for row in members) / len(members))
    count = Counter(row.target for row in members)
    latest = {target: max(row.time for row in members if row.target == target) for target in count}
    # The first of the largest: of equals the first in the alphabet.
    best = max(sorted(count, key=str), key=lambda target: (count[target], latest[target]))
    return min(row for row in members if row.target == best)
