"""The head before the first step: the best linear one for the frozen encoder (linear probing, then fine-tuning).

A random head would send large random gradients through a good encoder (Kumar et al., 2022).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokka.model.network import Specialist
from tokka.training.setup.datamodule import PreparedRows, Rows, inputs_of

REGULARISATION = 10.0
RIDGE_PENALTIES = tuple(float(10**power) for power in range(-1, 4))


def fit_head(model: Specialist, data: PreparedRows, *, autocast: bool) -> None:
    """Set the head to a logistic regression (C = 10) or a ridge regression on the encoder's present features.

    It weighs the classes as the training will.
    """
    features = extract_features(model, data, data.train, autocast=autocast) * model.feature_scale
    if data.train.targets.dtype == np.int64:
        weight, bias = _logistic(features, data.train.targets, balanced=data.params.class_weights == "balanced")
    else:
        weight, bias = _ridge(features, (data.train.targets - model.head.shift.item()) / model.head.scale.item())
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.from_numpy(weight))
        model.head.linear.bias.copy_(torch.from_numpy(bias))


def extract_features(model: Specialist, data: PreparedRows, rows: Rows, *, autocast: bool) -> NDArray[np.float32]:
    """Unit-length vectors (rows, hidden) in the rows' own order, without dropout."""
    found = np.empty((len(rows.ids), model.head.linear.in_features), dtype=np.float32)
    training, device = model.training, model.head.linear.weight.device
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        for batch in data.in_order(rows):
            inputs = {name: value.to(device) for name, value in inputs_of(batch).items()}
            found[batch["row"].numpy()] = model.embed(**inputs).cpu().numpy()
    model.train(training)
    return found


def _logistic(features: Any, targets: Any, *, balanced: bool) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression

    # A loose tolerance: the head is trained further, and the last digits cost half of the time.
    weights = "balanced" if balanced else None
    fitted = LogisticRegression(C=REGULARISATION, max_iter=200, tol=1e-3, class_weight=weights).fit(features, targets)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: sklearn keeps one row, the network has two
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.astype(np.float32), bias.astype(np.float32)


def _ridge(features: Any, targets: Any) -> tuple[Any, Any]:
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=RIDGE_PENALTIES).fit(features.astype(np.float64), targets.astype(np.float64))
    return fitted.coef_[None].astype(np.float32), np.asarray([fitted.intercept_], dtype=np.float32)
