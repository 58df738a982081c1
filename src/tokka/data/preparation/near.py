"""Keys that nearly are equal, by their character trigrams: MinHash proposes them, the exact similarity decides.

MinHash: Broder, "On the resemblance and containment of documents" (1997); the bands: Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3. The hash functions are datasketch's; an index of Python sets took 7.5 KB a key,
these sorted arrays take 160 bytes and the key.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokka.data import normalising

SHINGLE = 3
PERMUTATIONS = 64
HASH_SEED = 1
# A miss costs a leak, a false candidate only one set intersection.
HIGHEST_MISS = 1e-3
# Keys sketched at once, trigrams remembered, and pairs compared at once: what bounds the memory.
SKETCHED, REMEMBERED, COMPARED = 256, 200_000, 250_000
BITS = 256
Numbers = NDArray[np.uint64]


def shingles(key: str) -> frozenset[str]:
    """The character trigrams of a key, word ends included."""
    padded = f" {key} "
    return frozenset(padded[start : start + SHINGLE] for start in range(max(1, len(padded) - SHINGLE + 1)))


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two sets, in [0, 1]."""
    return len(left & right) / len(left | right)


def bands(threshold: float) -> tuple[int, int]:
    """Bands and rows per band of the index: the fewest candidates at which a pair at the threshold is hardly missed."""
    for rows in range(PERMUTATIONS // 4, 1, -1):
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= HIGHEST_MISS:
            return count, rows
    return PERMUTATIONS, 1


class Sketches(NamedTuple):
    """Of some keys, one row each: the bands, one number each; which of BITS their trigrams hit; how many they have."""

    bands: Numbers
    bits: Numbers
    sizes: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Sketches":
        """Those of some keys."""
        return Sketches(self.bands[chosen], self.bits[chosen], self.sizes[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Sketches"]) -> "Sketches":
        """Those of all parts, of which there is one at least."""
        bands, bits, sizes = zip(*parts, strict=True)
        return cls(np.concatenate(bands), np.concatenate(bits), np.concatenate(sizes))


class Sketcher:
    """What keys are looked up by; without a threshold, that they are equal."""

    def __init__(self, threshold: float | None) -> None:
        from datasketch import MinHash

        self.is_exact = threshold is None
        self.count, self.rows = (1, 0) if threshold is None else bands(threshold)
        self.empty = MinHash(num_perm=PERMUTATIONS, seed=HASH_SEED)
        self.places: dict[int, int] = {}
        self.hashes = np.empty((0, self.count * self.rows), np.uint32)
        self.mixing = np.random.default_rng(HASH_SEED).integers(1, 2**63, self.rows, np.uint64) * 2 + 1

    def sketch(self, keys: Sequence[str]) -> Sketches:
        """The sketches of keys."""
        if self.is_exact:
            digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
            empty = np.zeros(len(keys), np.int64)
            return Sketches(np.frombuffer(digests, np.uint64)[:, None], empty.astype(np.uint64)[:, None], empty)
        if not keys:
            return self._sketch([""]).where(np.array([False]))
        return Sketches.joined(
            [self._sketch(keys[start : start + SKETCHED]) for start in range(0, len(keys), SKETCHED)]
        )

    def _sketch(self, keys: Sequence[str]) -> Sketches:
        trigrams, owners, starts = _trigrams(keys)
        different, inverse = np.unique(trigrams, return_inverse=True)
        hashes = self._hashes(different.tolist())[inverse]
        # A number of 64 bits for the values of a band: two that fall together cost one comparison.
        least = np.minimum.reduceat(hashes, starts, axis=0).reshape(len(keys), self.count, self.rows)
        mixed = least.astype(np.uint64) * self.mixing
        mixed ^= mixed >> np.uint64(29)
        hits = np.zeros((len(inverse), BITS // 64), np.uint64)
        bit = hashes[:, 0] % np.uint32(BITS)
        hits[np.arange(len(bit)), bit // 64] = np.uint64(1) << (bit % 64).astype(np.uint64)
        own = np.unique(owners * len(different) + inverse) // len(different)
        sizes = np.bincount(own, minlength=len(keys))
        return Sketches(mixed.sum(axis=2), np.bitwise_or.reduceat(hits, starts, axis=0), sizes)

    def _hashes(self, trigrams: list[int]) -> NDArray[np.uint32]:
        """The hash values of each trigram, one row each."""
        if len(self.places) > REMEMBERED:
            self.places, self.hashes = {}, self.hashes[:0]
        if new := [number for number in trigrams if number not in self.places]:
            self.places |= {number: len(self.places) + place for place, number in enumerate(new)}
            self.hashes = np.concatenate([self.hashes, [self._hash(number) for number in new]])
        return self.hashes[[self.places[number] for number in trigrams]]

    def _hash(self, number: int) -> NDArray[np.uint32]:
        text = "".join(chr(number >> shift & 0x1FFFFF) for shift in (42, 21, 0))
        made = self.empty.copy()
        made.update(text.encode())
        found: NDArray[np.uint32] = made.hashvalues[: self.count * self.rows]
        return found


def _trigrams(keys: Sequence[str]) -> tuple[Numbers, NDArray[np.int64], NDArray[np.int64]]:
    """The trigrams of all keys, one number of 63 bits each, whose each is, and where those of each key begin."""
    padded = [f" {key} ".ljust(SHINGLE, "\0") for key in keys]
    characters = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32).astype(np.uint64)
    every = characters[:-2] << np.uint64(42) | characters[1:-1] << np.uint64(21) | characters[2:]
    lengths = np.array([len(text) for text in padded])
    inside = np.ones(len(every), bool)
    inside[(np.cumsum(lengths)[:-1, None] - [1, 2]).ravel()] = False
    counts = lengths - SHINGLE + 1
    return every[inside], np.repeat(np.arange(len(keys)), counts), np.cumsum(counts) - counts


class Index:
    """Keys to compare others with: all are added before the first question."""

    def __init__(self, threshold: float | None) -> None:
        self.threshold = threshold
        self.texts: list[pa.Array] = []
        self.sketches: list[Sketches] = []

    def add(self, keys: Sequence[str], sketches: Sketches) -> None:
        """Take these keys in."""
        self.texts.append(pa.array(keys, pa.string()))
        self.sketches.append(sketches)

    @cached_property
    def _sorted(self) -> list[tuple[Numbers, NDArray[np.int32]]]:
        """Of each band the numbers in order, and whose they are."""
        orders = []
        for band in range(self.sketches[0].bands.shape[1] if self.sketches else 0):
            column = np.concatenate([found.bands[:, band] for found in self.sketches])
            order = np.argsort(column, kind="stable").astype(np.int32)
            orders.append((column[order], order))
        # The numbers are in the orders now.
        self.sketches = [Sketches.joined([found._replace(bands=found.bands[:, :0]) for found in self.sketches])]
        return orders

    @cached_property
    def _texts(self) -> pa.ChunkedArray:
        return pa.chunked_array(self.texts, pa.string())

    def near(self, keys: Sequence[str], sketches: Sketches) -> NDArray[np.bool_]:
        """Of each key whether one in the index is equal, or as similar as the threshold."""
        found = np.zeros(len(keys), bool)
        for asked, held in self.candidates(sketches):
            texts, last, own = self._texts.take(held).to_pylist(), -1, frozenset[str]()
            for place, text in zip(asked.tolist(), texts, strict=True):
                if found[place] or self.threshold is None:
                    found[place] |= keys[place] == text
                    continue
                own = own if place == last else shingles(keys[place])
                found[place], last = similarity(own, shingles(text)) >= self.threshold, place
        return found

    def candidates(self, sketches: Sketches) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pairs that may be near, by place in `sketches` and in the index; of about COMPARED at once."""
        if not self.texts:
            return
        asked = [(order, found, sketches.bands[:, band]) for band, (found, order) in enumerate(self._sorted)]
        left = np.stack([np.searchsorted(found, wanted) for _, found, wanted in asked], 1)
        counts = np.stack([np.searchsorted(found, wanted, "right") for _, found, wanted in asked], 1) - left
        rounds = np.cumsum(counts.sum(axis=1)) // COMPARED
        for part in np.split(np.arange(len(left)), np.flatnonzero(np.diff(rounds)) + 1):
            pairs = [
                np.repeat(part, counts[part, band]) << 32 | order[_ranges(left[part, band], counts[part, band])]
                for band, (order, _, _) in enumerate(asked)
            ]
            found = np.unique(np.concatenate(pairs))
            yield self._possible(sketches, found >> 32, found & 0xFFFFFFFF)

    def _possible(
        self, sketches: Sketches, asked: NDArray[np.int64], held: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Without pairs whose bits differ in so many places that they cannot be as similar as the threshold."""
        if self.threshold is None:
            return asked, held
        _, bits, sizes = self.sketches[0]
        differ = np.bitwise_count(sketches.bits[asked] ^ bits[held]).sum(axis=1, dtype=np.int64)
        total = sketches.sizes[asked] + sizes[held]
        # Each bit that differs is a trigram that the other one lacks.
        common = (total - differ) // 2
        possible = common / (total - common) >= self.threshold
        return asked[possible], held[possible]


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, … for each start, as many as its count."""
    return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def near_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs (first < second, similarity) of texts that nearly are equal, the most similar first.

    `threshold`: Jaccard similarity of trigrams from which texts are near. MinHash may miss one pair in a thousand.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(normalising.key(text), []).append(place)
    keys = list(places)
    sketches, index = Sketcher(threshold).sketch(keys), Index(threshold)
    index.add(keys, sketches)
    found = [(one, other, 1.0) for members in places.values() for one, other in combinations(members, 2)]
    for asked, held in index.candidates(sketches):
        for one, other in zip(asked.tolist(), held.tolist(), strict=True):
            if one < other and (alike := similarity(shingles(keys[one]), shingles(keys[other]))) >= threshold:
                found += [(min(pair), max(pair), alike) for pair in product(places[keys[one]], places[keys[other]])]
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))
