"""Candidate against another model on the same rows: paired difference, its interval, an exact test, slice by slice.

Signs: positive means that the candidate is better, for errors as well as for accuracies.

Intervals. Over all rows: paired bootstrap of the metric, percentile method, at the stated confidence; the gate's
non-inferiority test reads its lower end. Of metrics that count answers it is never narrower than the interval of the
shares right (Bonett and Price, below): few disagreements leave the bootstrap nothing to draw. Over slices:
simultaneous intervals, Bonferroni over all slices compared, so that with probability `confidence` *none* of them lies
about its slice: twenty slices of two equal models do not make one false alarm more likely than one slice does. A slice
is compared by its rows right (or absolute error), whatever the overall metric is. For shares right the adjusted Wald
interval of Bonett and Price (2012, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based
on Paired Data") is used: it keeps its width on small slices where the two models agree on every row, where a bootstrap
would claim certainty. For absolute errors it is Student's t on the paired differences.

p-values. Classification: McNemar's exact test, two-sided. Regression: Wilcoxon's signed-rank test on absolute errors.
Those of slices are multiplied by the number of slices (Bonferroni). No rule of the gate reads a p-value.
"""

from collections.abc import Sequence

import numpy as np

from tokka.evaluation.gate.schema import Comparison, SliceDifference
from tokka.evaluation.metrics import metrics, resampling
from tokka.evaluation.metrics.intervals import mean_interval
from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.slices import Slice
from tokka.evaluation.metrics.test_set import TestSet
from tokka.params import Params

# How the names of metrics begin that know which answers are right, and nothing of how sure they are.
COUNTING = ("accuracy", "precision", "recall", "f1")


def compare(
    metric: str,
    target: Integers | Floats,
    candidate: Floats,
    other: Floats,
    *,
    slices: Sequence[Slice] = (),
    count: int,
    confidence: float,
    seed: int,
) -> Comparison:
    """Compare two models' scores on the same rows.

    `metric`: a name of `metrics.HIGHER_IS_BETTER` that is defined for the task; `target`: (rows,) class numbers, or
    numbers to predict; its dtype tells the task; `candidate`, `other`: (rows, classes) probabilities over the same
    classes, or (rows, 1) predicted values.
    """
    classes = np.issubdtype(target.dtype, np.integer)
    good, good_other = _goodness(target, candidate, classes), _goodness(target, other, classes)
    ranking = metric in ("roc_auc", "average_precision")
    pair = [resampling.statistics(target, scores, ranking) for scores in (candidate, other)]
    drawn, drawn_other = (resampling.draw(statistics, len(target), count, seed)[metric] for statistics in pair)
    # Every row once is the resample that gives the value itself.
    once = np.ones((1, len(target)), np.float32)
    value, value_other = (float(statistics(once)[metric][0]) for statistics in pair)
    sign = 1.0 if metrics.HIGHER_IS_BETTER[metric] else -1.0
    difference = sign * (value - value_other)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(sign * (drawn - drawn_other), [tail, 1.0 - tail])
    if metric.startswith(COUNTING):
        low, high = _widened(difference, low, high, good - good_other, confidence)
    return Comparison(
        metric=metric,
        difference=difference,
        low=float(min(low, difference)),
        high=float(max(high, difference)),
        p_value=mcnemar(good, good_other) if classes else signed_rank(good, good_other),
        rows=len(target),
        slices=compare_slices(good - good_other, slices, confidence, shares=bool(classes)),
    )


def compare_on(
    test: TestSet, metric: str, pair: tuple[Floats, Floats], params: Params, rows: Integers | None = None
) -> Comparison:
    """Compare a pair of scores as params.yaml asks, at 1 - gate.alpha: on all rows with slices, or on some without.

    Of all rows, those are left out whose class the other model does not know (see `TestSet.align`): it was made before
    there was such a class, and a better figure there would hide a worse one elsewhere.
    """
    target, slices = (test.target, test.slices) if rows is None else (test.target[rows], ())
    if (
        rows is None
        and test.classification
        and len(shared := np.flatnonzero(np.any(pair[1], axis=0)[target])) < len(target)
    ):
        target, pair = target[shared], (pair[0][shared], pair[1][shared])
        slices = [part for part in (_within(part, shared) for part in slices) if len(part.rows)]
    return compare(
        metric, target, *pair, slices=slices, confidence=1.0 - params.gate.alpha,
        count=params.evaluation.bootstrap, seed=params.finetuning.seed,
    )  # fmt: skip


def _within(part: Slice, rows: Integers) -> Slice:
    """A slice of all rows as one of some of them, in their order."""
    return Slice(part.slice, part.value, np.flatnonzero(np.isin(rows, part.rows)))


def _widened(difference: float, low: float, high: float, differences: Floats, confidence: float) -> tuple[float, float]:
    """Bounds that reach at least as far from `difference` as those of the shares right reach from theirs."""
    mean, least, most = paired_share_interval(differences, confidence)
    return max(-1.0, min(low, difference - (mean - least))), min(1.0, max(high, difference + (most - mean)))


def compare_slices(
    differences: Floats, slices: Sequence[Slice], confidence: float, *, shares: bool
) -> list[SliceDifference]:
    """Simultaneous intervals of the mean difference in each slice, worst first.

    `differences`: (rows,) candidate minus other in goodness: -1, 0 or 1 when `shares`, else any number.
    """
    each = 1.0 - (1.0 - confidence) / max(len(slices), 1)
    bounds = paired_share_interval if shares else mean_interval
    found = []
    for part in slices:
        own = differences[part.rows]
        mean, low, high = bounds(own, each)
        p_value = min(1.0, len(slices) * _paired_test(own, shares))
        found.append(
            SliceDifference(
                slice=part.slice, value=part.value, rows=len(own), difference=mean, low=low, high=high, p_value=p_value
            )
        )
    return sorted(found, key=lambda part: (part.difference, part.slice, part.value))


def _paired_test(differences: Floats, shares: bool) -> float:
    """The p-value of one slice alone, from candidate minus other in goodness."""
    if shares:
        return mcnemar(np.maximum(differences, 0.0), np.maximum(-differences, 0.0))
    return signed_rank(differences, np.zeros_like(differences))


def mcnemar(right: Floats, right_other: Floats) -> float:
    """McNemar's exact two-sided p-value over rows that exactly one of two models has right; 1 when there is none."""
    from scipy.stats import binomtest

    better, worse = int((right > right_other).sum()), int((right < right_other).sum())
    return float(binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0


def signed_rank(good: Floats, good_other: Floats) -> float:
    """Wilcoxon's two-sided signed-rank p-value; 1 when no row differs."""
    from scipy.stats import wilcoxon

    differences = good - good_other
    return float(wilcoxon(differences[differences != 0]).pvalue) if np.any(differences) else 1.0


def paired_share_interval(differences: Floats, confidence: float) -> tuple[float, float, float]:
    """Mean of differences in {-1, 0, 1} with Bonett and Price's adjusted Wald bounds."""
    from scipy.stats import norm

    rows = len(differences)
    better, worse = ((differences > 0).sum() + 1) / (rows + 2), ((differences < 0).sum() + 1) / (rows + 2)
    centre, mean = better - worse, float(differences.mean())
    reach = norm.ppf(0.5 + confidence / 2.0) * np.sqrt(max(better + worse - centre**2, 0.0) / (rows + 2))
    return mean, float(max(-1.0, min(centre - reach, mean))), float(min(1.0, max(centre + reach, mean)))


def _goodness(target: Integers | Floats, scores: Floats, classes: bool) -> Floats:
    """(rows,) 1 where right and 0 where wrong, or minus the absolute error."""
    if classes:
        return np.asarray(scores.argmax(axis=1) == target, np.float64)
    return -np.abs(scores[:, 0].astype(np.float64) - target)
