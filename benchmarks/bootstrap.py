"""How long the bootstrap takes: every metric of 2,000 resamples of 3,000 rows, beside a plain loop over resamples.

    python -m benchmarks.bootstrap --rows 3000 --classes 77 --resamples 2000

Seconds of processor time. The plain loop calls scikit-learn on the rows of a few resamples, and is extrapolated.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tokka.evaluation.metrics import metrics, resampling
from tokka.evaluation.metrics.metrics import Floats, Integers

LOOPS = 5


def make_scores(rows: int, classes: int, seed: int = 0) -> tuple[Integers, Floats]:
    """Targets (rows,) and probabilities (rows, classes) of a model that is right nine times of ten."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), target] += 4.5
    scores = np.exp(logits)
    return target, scores / scores.sum(axis=1, keepdims=True)


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print one line for each group of metrics, and the ratio to the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 3000), ("classes", 77), ("resamples", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    target, scores = make_scores(given.rows, given.classes)
    plain = seconds(lambda: plain_loop(target, scores)) / LOOPS * given.resamples

    def drawn(ranking: bool) -> float:
        statistics = resampling.classification_statistics(target, scores, ranking)
        return seconds(lambda: resampling.draw(statistics, given.rows, given.resamples, 1))

    weights = seconds(lambda: list(resampling.resamples(given.rows, given.resamples, 1)))
    without, whole = drawn(ranking=False), drawn(ranking=True)
    print(f"{given.resamples} resamples of {given.rows} rows, {given.classes} classes, processor seconds")
    print(f"  drawing the resamples          {weights:8.2f}")
    print(f"  10 metrics without ranking     {without:8.2f}   {(without - weights) / 10:.3f} a metric")
    print(f"  ROC-AUC and average precision  {whole - without:8.2f}   {(whole - without) / 2:.3f} a metric")
    print(f"  all                            {whole:8.2f}")
    print(f"  plain loop, extrapolated       {plain:8.2f}   {plain / whole:.0f} times as long")


def plain_loop(target: Integers, scores: Floats) -> None:
    """What anybody would write first: draw rows, call scikit-learn."""
    generator = np.random.default_rng(1)
    for _ in range(LOOPS):
        rows = generator.integers(0, len(target), len(target))
        metrics.classification(target[rows], scores[rows])


if __name__ == "__main__":
    main()
