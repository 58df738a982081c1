"""The head before the first step: the best linear one for the frozen encoder (linear probing, then fine-tuning).

A random head would send large random gradients through a good encoder (Kumar et al., 2022).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from tokka.model.network import Specialist
from tokka.training.setup.datamodule import PreparedRows, Targets, inputs_of
from tokka.training.setup.precision import Precision, autocast

REGULARISATION = 10.0
RIDGE_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
Floats = NDArray[np.floating]


def fit_head(model: Specialist, data: PreparedRows, precision: Precision) -> None:
    """Set the head to a logistic regression (C = 10) or a ridge regression on the encoder's present features.

    It weighs the classes as the training will.
    """
    features, targets = extract_features(model, data, precision) * np.float32(model.feature_scale), data.train.targets
    if targets.dtype == np.int64:
        weight, bias = _logistic(features, targets, balanced=data.params.class_weights == "balanced")
    else:
        weight, bias = _ridge(features, (targets - model.head.shift.item()) / model.head.scale.item())
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        model.head.linear.bias.copy_(torch.from_numpy(bias.astype(np.float32)))


def extract_features(model: Specialist, data: PreparedRows, precision: Precision) -> Floats:
    """Unit-length vectors (rows, hidden) of the training rows in their own order, without dropout."""
    found = np.empty((len(data.train.ids), model.head.linear.in_features), dtype=np.float32)
    training, device = model.training, model.head.linear.weight.device
    model.eval()
    with torch.inference_mode(), autocast(precision):
        for batch in data.in_order(data.train):
            inputs = {name: value.to(device) for name, value in inputs_of(batch).items()}
            found[batch["row"].numpy()] = model.embed(**inputs).cpu().numpy()
    model.train(training)
    return found


def _logistic(features: Floats, targets: Targets, *, balanced: bool) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    # A loose tolerance: the head is trained further, and the last digits cost half of the time.
    weights = "balanced" if balanced else None
    fitted = LogisticRegression(C=REGULARISATION, max_iter=200, tol=1e-3, class_weight=weights).fit(features, targets)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: sklearn keeps one row, the network has two
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _ridge(features: Floats, targets: Targets) -> tuple[Floats, Floats]:
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=RIDGE_PENALTIES).fit(features.astype(np.float64), targets.astype(np.float64))
    return fitted.coef_[None], np.asarray([fitted.intercept_])
