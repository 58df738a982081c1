"""Do two samples differ, asked of several columns at once, with one error rate for all of them together.

Rows are shuffled between the two samples; for each shuffle every statistic is computed, its rank is its p-value, and
the smallest p of a shuffle is compared with the smallest p that was observed (Westfall and Young, 1993). Nothing is
assumed but that rows are exchangeable. Asymptotic tests are not used: on many classes with few rows each they alarm on
clean traffic, as Evidently's default on the predicted class does on every clean window of 77 classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokka.monitoring.drift.columns import Floats, Pair

RARE = 5
# Places at which two distribution functions are compared: more find nothing more in windows of hundreds of rows.
PLACES = 64


@dataclass(frozen=True)
class Comparison:
    """One p-value for everything, and one per column (the smaller of its statistics, corrected for their number)."""

    p: float
    columns: Mapping[str, float]


def compare(pair: Pair, *, permutations: int, seed: int) -> Comparison:
    """Compare reference and window; a column that is constant over both says nothing and gets p = 1."""
    sides = next(iter(pair.numbers.values()))
    before, after = len(sides[0]), len(sides[1])
    members = _shuffles(before, after, permutations, seed)
    numbers = {name: np.concatenate(both) for name, both in pair.numbers.items()}
    # A shift of many rows by a little, and any change of shape.
    centred = np.column_stack([values - values.mean() for values in numbers.values()])
    shifts = np.abs(members.astype(np.float64) @ centred) / after
    statistics: dict[str, list[Floats]] = {
        name: [_distance(members, values, after), shifts[:, place]]
        for place, (name, values) in enumerate(numbers.items())
    }
    if pair.classes:
        statistics["prediction"] = [_chi_square(members, [*pair.classes[0], *pair.classes[1]], after)]
    ranks = {name: [_p_values(one) for one in found] for name, found in statistics.items()}
    extreme = _extremeness(
        [one for found in statistics.values() for one in found], [one for found in ranks.values() for one in found]
    )
    columns = {name: float(min(1.0, len(found) * min(one[0] for one in found))) for name, found in ranks.items()}
    return Comparison(float(np.mean(extreme >= extreme[0])), columns)


def _shuffles(before: int, after: int, permutations: int, seed: int) -> NDArray[np.float32]:
    """Who is in the window, (1 + permutations, rows); the first row is what was observed."""
    generator = np.random.default_rng(seed)
    members = np.zeros((permutations + 1, before + after), dtype=np.float32)
    members[0, before:] = 1.0
    for row in members[1:]:
        row[generator.choice(before + after, size=after, replace=False, shuffle=False)] = 1.0
    return members


def _distance(members: NDArray[np.float32], values: Floats, after: int) -> Floats:
    """Kolmogorov-Smirnov: the largest distance of the distribution functions, at PLACES evenly spread ranks."""
    ordered = np.sort(values)
    # Where rows are equal, the distribution functions may be compared only behind the last of them.
    ends = ordered[np.append(np.diff(ordered) != 0, True)]
    places = ends[np.unique(np.linspace(0, len(ends) - 1, min(PLACES, len(ends))).astype(int))]
    below = (values[:, None] <= places).astype(np.float32)
    # F_window - F_all is proportional to F_window - F_reference: both sides of a shuffle add up to all.
    distance: Floats = np.abs(members @ below / after - below.mean(axis=0)).max(axis=1).astype(np.float64)
    return distance


def _chi_square(members: NDArray[np.float32], classes: Sequence[str], after: int) -> Floats:
    """Pearson's statistic over classes, the rare ones together."""
    counts = Counter(classes)
    kept = {name: index for index, name in enumerate(sorted(name for name in counts if counts[name] >= RARE))}
    codes = np.array([kept.get(name, len(kept)) for name in classes])
    one_hot = np.zeros((len(classes), len(kept) + 1), dtype=np.float32)
    one_hot[np.arange(len(classes)), codes] = 1.0
    one_hot = one_hot[:, one_hot.any(axis=0)]
    expected = one_hot.sum(axis=0) * after / len(classes)
    found: Floats = (((members @ one_hot) - expected) ** 2 / expected).sum(axis=1).astype(np.float64)
    return found


def _extremeness(statistics: list[Floats], p_values: list[Floats]) -> Floats:
    """How odd each shuffle is: by its smallest p, and where that is equal by its largest standardised statistic.

    By ranks alone every statistic has a shuffle of rank one, and no window could be odder than all of those together.
    """
    smallest = np.min(p_values, axis=0)
    deviations = [(one - one.mean()) / one.std() for one in statistics if one.std() > 0]
    largest = np.max(deviations, axis=0) if deviations else np.zeros_like(smallest)
    steps = len(smallest)
    extremeness: Floats = np.round(-smallest * steps) + (largest - largest.min()) / (np.ptp(largest) + 1.0)
    return extremeness


def _p_values(statistic: Floats) -> Floats:
    """Of every shuffle: the share of shuffles whose statistic is at least as large."""
    # Sums in another order differ in their last digits: without rounding, ties would count as larger.
    rounded = np.round(statistic, 9)
    smaller = np.searchsorted(np.sort(rounded), rounded, side="left")
    return (len(rounded) - smaller) / len(rounded)
