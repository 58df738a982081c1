"""How strongly a linear head is regularised: chosen by cross-validation, seeded, on the features that it stands on."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# Of logistic regression on features of length 10: at 10 rows a class the best on BANKING77 lies at 0.1 to 0.3, and ten
# times that costs a point.
GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
UNCHOSEN = 0.3
FOLDS = 3
# The best C is that of the prior and hardly moves with the number of rows; more of them cost minutes.
MOST_ROWS = 1500


def choose_regularisation(features: Floats, targets: NDArray[Any], seed: int, *, balanced: bool = False) -> float:
    """The C of GRID with the best accuracy in stratified FOLDS-fold cross-validation; of equals the smallest.

    features: (rows, hidden); targets: (rows,) class numbers; at most MOST_ROWS rows, drawn by the seed, are looked at.
    UNCHOSEN where no class has two rows.
    """
    from sklearn.model_selection import StratifiedKFold

    drawn = np.random.default_rng(seed).permutation(len(targets))[:MOST_ROWS]
    features, targets = np.asarray(features, np.float32)[drawn], targets[drawn]
    folds = min(FOLDS, max(Counter(targets.tolist()).values()))
    if folds < 2:
        return UNCHOSEN
    right = np.zeros(len(GRID))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer rows than folds, fits that stop early
        for fitted, asked in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, targets):
            right += _right_answers(features, targets, fitted, asked, balanced=balanced)
    return GRID[int(right.argmax())]


def _right_answers(
    features: Floats, targets: NDArray[np.int64], fitted: NDArray[np.int64], asked: NDArray[np.int64], *, balanced: bool
) -> NDArray[np.float64]:
    """How many of the rows `asked` each C answers right, each fit going on from the one before."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(targets[fitted])) < 2:
        return np.zeros(len(GRID))
    head = LogisticRegression(max_iter=100, tol=1e-2, warm_start=True, class_weight="balanced" if balanced else None)
    found = []
    for strength in GRID:
        head.set_params(C=strength).fit(features[fitted], targets[fitted])
        found.append(float((head.predict(features[asked]) == targets[asked]).sum()))
    return np.asarray(found)
