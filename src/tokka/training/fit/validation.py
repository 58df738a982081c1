"""The figures that steer training: on validation rows, never on test rows; computed by torchmetrics."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokka.training.setup.datamodule import Targets

Floats = NDArray[np.floating]

# The one that early stopping reads, by task, and whether more of it is better.
STEERING = {"classification": ("accuracy", True), "regression": ("mae", False)}


def validation_metrics(task: str, outputs: Floats, targets: "Targets") -> dict[str, float]:
    """Loss, metrics and the standard error of the steering one.

    `outputs` are (rows, labels) logits or (rows, 1) values, `targets` (rows,) class numbers or values.
    """
    if task == "regression":
        return _regression(outputs[:, 0].astype(np.float64), np.asarray(targets, dtype=np.float64))
    return _classification(outputs.astype(np.float64), np.asarray(targets, dtype=np.int64))


def is_better(task: str, tuned: Floats, linear: Floats, targets: "Targets", *, few: bool = False) -> bool:
    """Whether a fine-tuned network is kept over the linear head that it began with: by the validation rows' metric.

    Outputs (rows, labels or 1). Of equals it is kept: it had the same rows to learn from, and more freedom. With `few`
    rows of classes the head has to be better beyond noise (two standard errors of the paired difference): of 110
    validation rows one more right answer says nothing, and the gentle training was the better one on other data.
    """
    name, higher = STEERING[task]
    gains = [validation_metrics(task, outputs, targets)[name] * (1 if higher else -1) for outputs in (tuned, linear)]
    noise = 0.0
    if few:
        right = [outputs.argmax(axis=1) == targets for outputs in (tuned, linear)]
        noise = 2 * float(np.sqrt(np.count_nonzero(right[0] != right[1]))) / len(targets)
    return gains[0] >= gains[1] - noise


def _classification(logits: Floats, targets: NDArray[np.int64]) -> dict[str, float]:
    import torch
    from torch.nn.functional import cross_entropy
    from torchmetrics.functional import classification as tm

    scores, truth, classes = torch.from_numpy(logits), torch.from_numpy(targets), logits.shape[1]
    predicted = scores.argmax(dim=1)
    accuracy = float(tm.multiclass_accuracy(predicted, truth, classes, average="micro"))
    each = tm.multiclass_f1_score(predicted, truth, classes, average="none")
    return {
        "loss": float(cross_entropy(scores, truth)),
        "accuracy": accuracy,
        # Over the classes that occur among the targets: a rare one may be missing from the validation rows.
        "f1_macro": float(each[torch.from_numpy(np.unique(targets))].mean()),
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / len(targets))),
    }


def _regression(values: NDArray[np.float64], targets: NDArray[np.float64]) -> dict[str, float]:
    import torch
    from torchmetrics import functional as tm

    found, truth = torch.from_numpy(values), torch.from_numpy(targets)
    return {
        "loss": float(tm.mean_squared_error(found, truth)),
        "mae": float(tm.mean_absolute_error(found, truth)),
        "rmse": float(tm.mean_squared_error(found, truth, squared=False)),
        # Of a constant target R² is undefined.
        "r2": float(tm.r2_score(found, truth)) if np.ptp(targets) else 0.0,
        "standard_error": float(np.abs(values - targets).std() / np.sqrt(len(targets))),
    }
