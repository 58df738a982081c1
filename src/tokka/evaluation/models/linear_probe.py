"""The cheap way to specialise: the un-tuned encoder with a linear head on it (a linear probe; Alain and Bengio, 2016).

    model = LinearModel(FrozenEncoder(folder, 128), labels)
    model.fit(texts, None, targets)
    model.predict(["where is my card?"])            # (rows, labels) probabilities, or (rows, 1) values

One encoder can carry the heads of many tasks. When it is not worse than fine-tuning, it should be preferred.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokka.evaluation.metrics.metrics import Floats

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression, RidgeCV

    from tokka.evaluation.models.zero_shot import FrozenEncoder

NAME = "linear head on the un-tuned encoder"
# Enough to fit 384 weights a class; embedding more costs minutes.
MAXIMUM_ROWS = 20_000
ITERATIONS = 500


class LinearModel:
    """A logistic or ridge regression on frozen features, regularised as the specialist's own first head is."""

    def __init__(self, encoder: "FrozenEncoder", labels: Sequence[str]) -> None:
        self._encoder, self._labels = encoder, list(labels)
        self._head: LogisticRegression | RidgeCV

    def fit(self, texts: Sequence[str], pairs: Sequence[str] | None, targets: Sequence[str | float]) -> None:
        """Fit the head on training rows; classes without a row are never answered."""
        from sklearn.linear_model import LogisticRegression, RidgeCV

        from tokka.training.setup.warm_start import REGULARISATION, RIDGE_PENALTIES

        head = LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS) if self._labels else RidgeCV(RIDGE_PENALTIES)
        self._head = head.fit(self._features(texts, pairs), np.asarray(targets))

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Floats:
        """(rows, labels) probabilities in the order of the labels, or (rows, 1) values."""
        features = self._features(texts, pairs)
        if not self._labels:
            return np.asarray(self._head.predict(features), np.float64).reshape(-1, 1)
        scores = np.zeros((len(features), len(self._labels)))
        known = [self._labels.index(label) for label in self._head.classes_]
        scores[:, known] = self._head.predict_proba(features)
        return scores

    def _features(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Floats:
        from tokka.model.network import FEATURE_SCALE

        embedded: Floats = self._encoder.embed(texts, pairs)
        return np.asarray(FEATURE_SCALE * embedded, np.float64)
