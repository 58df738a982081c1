"""The same metrics by scikit-learn and scipy: what the resampled ones are held to."""

import math
import warnings

import numpy as np
from scipy import stats
from sklearn import metrics as sk
from sklearn.metrics import precision_recall_fscore_support

from tokka.evaluation.metrics.metrics import CALIBRATION_BINS, brier_rows, confidence_bins, truth_probability


def classification(target, scores):
    """Metrics of probabilities."""
    predicted = scores.argmax(axis=1)
    present = np.unique(target)
    found = {"accuracy": float(sk.accuracy_score(target, predicted))}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            target, predicted, labels=present, average=average, zero_division=0.0
        )
        found |= {f"precision_{average}": precision, f"recall_{average}": recall, f"f1_{average}": f1}
    found |= _ranking(target, scores, present) | _probabilistic(target, scores)
    return _finite(found)


def regression(target, values):
    """Metrics of predicted numbers; `target` and `values` are (rows,)."""
    found = {
        "mae": float(sk.mean_absolute_error(target, values)),
        "rmse": float(sk.root_mean_squared_error(target, values)),
    }
    if np.ptp(target) > 0:
        found["r2"] = float(sk.r2_score(target, values))
    if np.ptp(target) > 0 and np.ptp(values) > 0:
        found["pearson"] = float(stats.pearsonr(target, values).statistic)
        found["spearman"] = float(stats.spearmanr(target, values).statistic)
    return _finite(found)


def per_class(target, predicted, labels):
    """Precision, recall, F1 and rows of every class that occurs in the target, worst F1 first."""
    present = np.unique(target)
    columns = precision_recall_fscore_support(target, predicted, labels=present, average=None, zero_division=0.0)
    found = [
        {"label": labels[number], "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for number, p, r, f, n in zip(present, *columns, strict=True)
    ]
    return sorted(found, key=lambda row: (row["f1"], row["label"]))


def _ranking(target, scores, present):
    """ROC-AUC and average precision, one class against the rest, averaged over the classes where both exist."""
    usable = [number for number in present if 0 < (target == number).sum() < len(target)]
    if not usable:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auc = [sk.roc_auc_score(target == number, scores[:, number]) for number in usable]
        precision = [sk.average_precision_score(target == number, scores[:, number]) for number in usable]
    return {"roc_auc": float(np.mean(auc)), "average_precision": float(np.mean(precision))}


def _probabilistic(target, scores):
    confidence, right = scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == target
    gaps = np.bincount(confidence_bins(confidence), weights=right - confidence, minlength=CALIBRATION_BINS)
    return {
        "log_loss": float(-np.log(truth_probability(target, scores)).mean()),
        "brier": float(brier_rows(target, scores).mean()),
        "ece": float(np.abs(gaps).sum() / len(target)),
    }


def _finite(found):
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
