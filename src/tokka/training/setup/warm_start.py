"""The head before the first step: the best linear one for the frozen encoder (linear probing, then fine-tuning).

A random head would send large random gradients through a good encoder (Kumar et al., 2022).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from tokka.model.network import Specialist
from tokka.training.setup.datamodule import PreparedRows, Rows, Targets, inputs_of
from tokka.training.setup.linear_head import choose_regularisation
from tokka.training.setup.precision import Precision, autocast

REGULARISATION = 10.0
RIDGE_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
Floats = NDArray[np.floating]


def fit_head(
    model: Specialist, data: PreparedRows, precision: Precision, *, chosen: bool = False,
    features: Floats | None = None, rows: Rows | None = None,
) -> float | None:  # fmt: skip
    """Set the head to a logistic regression or a ridge regression on the encoder's present features of `rows`.

    `rows`: by default the training rows. `chosen`: its C is chosen by cross-validation, for a head that stays as it is;
    one that is trained further begins at C = 10. `features`: from `extract_features`, if just computed. Returns the C;
    None for a ridge regression, which chooses its own penalty.
    """
    rows = data.train if rows is None else rows
    features = extract_features(model, data, precision, rows) if features is None else features
    features, targets = features * np.float32(model.feature_scale), rows.targets
    strength: float | None
    if targets.dtype == np.int64:
        balanced, strength = data.params.class_weights == "balanced", REGULARISATION
        if chosen:
            strength = choose_regularisation(features, targets, data.params.seed, balanced=balanced)
        weight, bias = _logistic(features, targets, strength, balanced=balanced)
    else:
        strength = None
        weight, bias = _ridge(features, (targets - model.head.shift.item()) / model.head.scale.item())
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        model.head.linear.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
    return strength


def extract_features(model: Specialist, data: PreparedRows, precision: Precision, rows: Rows | None = None) -> Floats:
    """Unit-length vectors (rows, hidden) of the training rows, or of others, in their own order, without dropout."""
    rows = data.train if rows is None else rows
    found = np.empty((len(rows.ids), model.head.linear.in_features), dtype=np.float32)
    training, device = model.training, model.head.linear.weight.device
    model.eval()
    with torch.inference_mode(), autocast(precision):
        for batch in data.in_order(rows):
            inputs = {name: value.to(device) for name, value in inputs_of(batch).items()}
            found[batch["row"].numpy()] = model.embed(**inputs).cpu().numpy()
    model.train(training)
    return found


def _logistic(features: Floats, targets: Targets, strength: float, *, balanced: bool) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    # A loose tolerance: the head is trained further, and the last digits cost half of the time.
    weights = "balanced" if balanced else None
    fitted = LogisticRegression(C=strength, max_iter=200, tol=1e-3, class_weight=weights).fit(features, targets)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: sklearn keeps one row, the network has two
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _ridge(features: Floats, targets: Targets) -> tuple[Floats, Floats]:
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=RIDGE_PENALTIES).fit(features.astype(np.float64), targets.astype(np.float64))
    return fitted.coef_[None], np.asarray([fitted.intercept_])
