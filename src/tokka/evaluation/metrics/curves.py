"""What is drawn: confusion matrix, ROC curve, what a threshold costs, classes that are mixed up, residuals.

All answers are plain lists of finite numbers: they become JSON, which Kubeflow and the report read.
"""

import re

import numpy as np

from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.evaluation.metrics.test_set import TestSet, sample_rows

ROC_POINTS = 200
CONFUSED_PAIRS = 12
EXAMPLES = 2
EXAMPLE_CHARACTERS = 200
SCATTER_POINTS = 800
THRESHOLDS = (*(number / 20 for number in range(20)), 0.975, 0.99)
OUT_OF_SCOPE = re.compile(r"(oos|out[\W_]*of[\W_]*scope|out[\W_]*of[\W_]*domain|ood)", re.IGNORECASE)


def confusion(target: Integers, predicted: Integers, classes: tuple[str, ...]) -> dict[str, list[object]]:
    """{"labels", "matrix"}: rows are truths, columns predictions, counts of test rows."""
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(target, predicted, labels=range(len(classes)))
    return {"labels": list(classes), "matrix": matrix.tolist()}


def roc(target: Integers, scores: Floats) -> dict[str, list[float]]:
    """The micro-averaged one-vs-rest curve in at most ROC_POINTS points; empty when only one class exists.

    scikit-learn starts its thresholds at infinity, which Kubeflow cannot read: that point gets 1.
    """
    from sklearn.metrics import roc_curve

    truth = np.zeros(scores.shape, bool)
    truth[np.arange(len(target)), target] = True
    if scores.shape[1] < 2:
        return {"fpr": [], "tpr": [], "threshold": []}
    false, true, threshold = roc_curve(truth.ravel(), scores.ravel())
    # By arc length, not by rank: most points crowd into the corner.
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(false), np.diff(true)))])
    chosen = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], ROC_POINTS)).clip(0, len(false) - 1))
    picked = (false[chosen], true[chosen], np.where(np.isfinite(threshold), threshold, 1.0)[chosen])
    return dict(zip(("fpr", "tpr", "threshold"), ([round(float(v), 6) for v in part] for part in picked), strict=True))


def abstention(test: TestSet, scores: Floats) -> dict[str, object]:
    """What `serving.threshold` would cost on the test rows: the risk-coverage curve (El-Yaniv and Wiener, 2010).

    curve: threshold, coverage (share of rows answered) and risk (share of these that is wrong; null where none is
    answered). out_of_scope: where a class of the test rows is called so, AUROC of the confidence in telling its rows
    from the others, else null.
    """
    from sklearn.metrics import roc_auc_score

    confidence, wrong = scores.max(axis=1), scores.argmax(axis=1) != test.target
    curve = []
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        risk = round(float(wrong[answered].mean()), 6) if answered.any() else None
        curve.append({"threshold": threshold, "coverage": round(float(answered.mean()), 6), "risk": risk})
    outside = [place for place, label in enumerate(test.classes) if OUT_OF_SCOPE.fullmatch(label)]
    strange = np.isin(test.target, outside)
    found = None
    if 0 < strange.sum() < len(strange):
        # Of the classes that are in scope: how sure it is of one of those.
        inside = np.delete(scores, outside, axis=1).max(axis=1)
        auroc = round(float(roc_auc_score(~strange, inside)), 6)
        found = {
            "label": ", ".join(test.classes[place] for place in outside),
            "rows": int(strange.sum()),
            "auroc": auroc,
        }
    return {"curve": curve, "out_of_scope": found}


def confused(test: TestSet, scores: Floats) -> list[dict[str, object]]:
    """The pairs of classes that are mixed up most, both ways counted together, with the surest mistakes as examples."""
    target, predicted = test.target.astype(np.int64), scores.argmax(axis=1)
    found: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(target != predicted):
        found.setdefault((min(target[row], predicted[row]), max(target[row], predicted[row])), []).append(int(row))
    worst = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:CONFUSED_PAIRS]
    return [
        {
            "labels": [test.classes[first], test.classes[second]],
            "rows": len(rows),
            "examples": [
                _example(test, scores, row) for row in sorted(rows, key=lambda row: -scores[row].max())[:EXAMPLES]
            ],
        }
        for (first, second), rows in worst
    ]


def residuals(test: TestSet, values: Floats, seed: int) -> dict[str, object]:
    """Truth and prediction of a seeded sample of rows, for a scatter plot."""
    chosen = sample_rows(test.rows, SCATTER_POINTS, seed)
    return {"target": test.target[chosen].astype(float).tolist(), "value": values[chosen].astype(float).tolist()}


def _example(test: TestSet, scores: Floats, row: int) -> dict[str, object]:
    return {
        "text": test.texts[row][:EXAMPLE_CHARACTERS],
        "truth": test.classes[int(test.target[row])],
        "predicted": test.classes[int(scores[row].argmax())],
        "confidence": round(float(scores[row].max()), 4),
    }
