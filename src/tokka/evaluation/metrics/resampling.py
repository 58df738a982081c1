"""Every quality figure of a model on a test set, for the rows as they are and for thousands of resamples at a time.

A resample is a row of weights: how often each test row was drawn. One weight matrix serves every metric and every
model, so the difference between two models is paired without further work.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tokka.evaluation.metrics.metrics import (
    CALIBRATION_BINS,
    Floats,
    Integers,
    brier_rows,
    confidence_bins,
    truth_probability,
)

Weights = Floats
Statistics = Callable[[Weights], dict[str, Floats]]

# Weights held at once: 256 x 3,000 rows stay in the processor's cache, and a million rows still fit in memory.
BLOCK_CELLS = 1 << 20


def resamples(rows: int, count: int, seed: int) -> Iterator[Weights]:
    """`count` bootstrap resamples as blocks of weights (block, rows); each row of weights sums to `rows`."""
    generator = np.random.default_rng(seed)
    block = max(1, min(count, BLOCK_CELLS // max(rows, 1)))
    for start in range(0, count, block):
        size = min(block, count - start)
        drawn = generator.integers(0, rows, size=(size, rows), dtype=np.int32)
        drawn += (np.arange(size, dtype=np.int32) * rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float32)


def draw(statistics: Statistics, rows: int, count: int, seed: int) -> dict[str, Floats]:
    """Every statistic on every resample: name to (count,); NaN where a resample leaves it undefined."""
    parts = [statistics(weights) for weights in resamples(rows, count, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def statistics(target: Integers | Floats, scores: Floats, ranking: bool = True) -> Statistics:
    """Of the task that the dtype of `target` tells: class numbers, or values (the first column of `scores`)."""
    if np.issubdtype(target.dtype, np.integer):
        return classification_statistics(target.astype(np.int64), scores, ranking)
    return regression_statistics(target.astype(np.float64), scores[:, 0])


def classification_statistics(target: Integers, scores: Floats, ranking: bool = True) -> Statistics:
    """Metrics of probabilities (rows, classes); `ranking=False` leaves ROC-AUC and average precision out.

    Macro averages run over the classes that occur among the rows drawn.
    """
    counts, means = _count_statistics(target, scores.argmax(axis=1)), _probability_statistics(target, scores)
    ranks = _ranking_statistics(target, scores) if ranking else None

    def statistics(weights: Weights) -> dict[str, Floats]:
        return counts(weights) | means(weights) | (ranks(weights) if ranks else {})

    return statistics


def regression_statistics(target: Floats, values: Floats) -> Statistics:
    """Metrics of predicted numbers (rows,); ranks are formed anew in every resample."""
    y, x = np.asarray(target, np.float64), np.asarray(values, np.float64)
    # Centred first: the sums of squares below would lose digits on a target far from zero.
    y0, x0, error = y - y.mean(), x - y.mean(), y - x
    columns = np.stack([np.abs(error), error**2, y0, y0**2, x0, x0**2, x0 * y0], axis=1)
    rank_y, rank_x = _ranker(y), _ranker(x)

    def statistics(weights: Weights) -> dict[str, Floats]:
        absolute, squared, sy, syy, sx, sxx, sxy = (weights.astype(np.float64) @ columns).T / len(y)
        variance_y, variance_x = syy - sy**2, sxx - sx**2
        return {
            "mae": absolute,
            "rmse": np.sqrt(squared),
            "r2": 1.0 - _ratio(squared, variance_y),
            "pearson": _ratio(sxy - sx * sy, np.sqrt(np.maximum(variance_y * variance_x, 0.0))),
            "spearman": _correlation(weights, rank_y(weights), rank_x(weights)),
        }

    return statistics


def _count_statistics(target: Integers, predicted: Integers) -> Statistics:
    """Accuracy, precision, recall and F1 from weighted counts per class."""
    each = class_statistics(target, predicted)

    def statistics(weights: Weights) -> dict[str, Floats]:
        by_class, rows = each(weights), weights.sum(axis=1)
        support, right = by_class.pop("support"), by_class.pop("right")
        drawn = support > 0
        found: dict[str, Floats] = {"accuracy": right.sum(axis=1) / rows}
        for name, values in by_class.items():
            values = np.nan_to_num(values)
            found[f"{name}_macro"] = (values * drawn).sum(axis=1) / drawn.sum(axis=1)
            found[f"{name}_weighted"] = (values * support).sum(axis=1) / rows
        return found

    return statistics


def class_statistics(target: Integers, predicted: Integers) -> Statistics:
    """Precision, recall, F1, support and right answers, each (block, classes of the target).

    A class that a resample has no row of has no recall and no F1 there (NaN); one that is never predicted has the
    precision 0.
    """
    present = np.unique(target)
    truth = (target[:, None] == present).astype(np.float32)
    guess = (predicted[:, None] == present).astype(np.float32)
    both = truth * guess

    def statistics(weights: Weights) -> dict[str, Floats]:
        support, guessed, right = weights @ truth, weights @ guess, weights @ both
        return {
            "precision": _ratio(right, guessed, empty=0.0),
            "recall": _ratio(right, support),
            "f1": np.where(support > 0, _ratio(2 * right, support + guessed, empty=0.0), np.nan),
            "support": support,
            "right": right,
        }

    return statistics


def _probability_statistics(target: Integers, scores: Floats) -> Statistics:
    """Log loss, Brier score and calibration error: sums of per-row values, the last within fixed bins."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == target
    gaps = np.zeros((len(target), CALIBRATION_BINS), np.float32)
    gaps[np.arange(len(target)), confidence_bins(confidence)] = right - confidence
    loss = -np.log(truth_probability(target, scores))
    columns = np.column_stack([loss, brier_rows(target, scores), gaps]).astype(np.float32)

    def statistics(weights: Weights) -> dict[str, Floats]:
        means = (weights @ columns) / weights.sum(axis=1, keepdims=True)
        return {"log_loss": means[:, 0], "brier": means[:, 1], "ece": np.abs(means[:, 2:]).sum(axis=1)}

    return statistics


def _ranking_statistics(target: Integers, scores: Floats) -> Statistics:
    """ROC-AUC and average precision per class against the rest, averaged over classes drawn in the resample."""
    plans = [_Ranking(target == number, scores[:, number]) for number in np.unique(target)]
    plans = [plan for plan in plans if plan.usable]

    def statistics(weights: Weights) -> dict[str, Floats]:
        if not plans:
            return {}
        columns = np.ascontiguousarray(weights.T)
        auc, precision = zip(*(plan(columns) for plan in plans), strict=True)
        return {"roc_auc": _mean(np.stack(auc)), "average_precision": _mean(np.stack(precision))}

    return statistics


class _Ranking:
    """One class's rows in falling order of score, summed between the places where its positives stand.

    A positive is judged by the rows that score more and by those that score at least as much, so that ties are
    shared fairly. Only those sums are formed, by a sparse matrix: running sums over all rows cost ten times as much.
    """

    def __init__(self, positive: NDArray[np.bool_], score: Floats) -> None:
        from scipy.sparse import csr_array

        order = np.argsort(-score, kind="stable")
        where = np.flatnonzero(positive[order])
        self.usable = 0 < len(where) < len(score)
        self.positives = order[where]
        rising = -score[order]
        first = np.searchsorted(rising, rising[where], side="left")
        last = np.searchsorted(rising, rising[where], side="right")
        cuts = np.unique(np.concatenate([first, last]))
        self.first, self.last = np.searchsorted(cuts, first), np.searchsorted(cuts, last)
        self.first_positive, self.last_positive = np.searchsorted(where, first), np.searchsorted(where, last)
        taken = order[: cuts[-1]] if len(cuts) else order[:0]
        pointers = np.concatenate([[0], cuts])
        self.segments = csr_array((np.ones(len(taken), np.float32), taken, pointers), shape=(len(cuts), len(score)))

    def __call__(self, weights: Weights) -> tuple[Floats, Floats]:
        """AUC and average precision for weights (rows, block), each (block,)."""
        drawn = weights[self.positives]
        above = np.cumsum(self.segments @ weights, axis=0)
        within = np.concatenate([np.zeros_like(drawn[:1]), np.cumsum(drawn, axis=0)])
        positives, total = within[-1], np.float32(len(weights))
        at_least, at_least_right = above[self.last], within[self.last_positive]
        wrong_at_least = at_least - at_least_right
        wrong_above = above[self.first] - within[self.first_positive]
        passed = (drawn * (wrong_at_least + wrong_above)).sum(axis=0) / 2.0
        precision = (drawn * _ratio(at_least_right, at_least, empty=0.0)).sum(axis=0)
        return 1.0 - _ratio(passed, positives * (total - positives)), _ratio(precision, positives)


def _ranker(values: Floats) -> Callable[[Weights], Floats]:
    """Mid-ranks of `values` within each resample, (block, rows)."""
    order = np.argsort(values, kind="stable")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def ranks(weights: Weights) -> Floats:
        groups = np.add.reduceat(weights[:, order].astype(np.float64), first, axis=1)
        return np.asarray((np.cumsum(groups, axis=1) - groups / 2.0)[:, inverse])

    return ranks


def _correlation(weights: Weights, y: Floats, x: Floats) -> Floats:
    """Weighted Pearson correlation along the rows, (block,)."""
    rows = weights.sum(axis=1, keepdims=True)
    y = y - (weights * y).sum(axis=1, keepdims=True) / rows
    x = x - (weights * x).sum(axis=1, keepdims=True) / rows
    spread = np.sqrt((weights * y * y).sum(axis=1) * (weights * x * x).sum(axis=1))
    return _ratio((weights * x * y).sum(axis=1), spread)


def _ratio(above: Floats, below: Floats, empty: float = np.nan) -> Floats:
    filled: Floats = np.full(np.shape(above), empty, np.result_type(above, below))
    return np.asarray(np.divide(above, below, out=filled, where=below > 0))


def _mean(values: Floats) -> Floats:
    """Mean over the first axis of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(values.dtype))
