"""What needs no language model at all: TF-IDF of words and of pieces of words, and a linear model on it.

Where the base model cannot read the texts, or the classes are told apart by a few words, nothing may beat it. Pieces of
words (character n-grams) make it read languages without spaces.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokka.evaluation.metrics.metrics import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import FeatureUnion
    from sklearn.svm import LinearSVC

NAME = "linear model on TF-IDF"
MAXIMUM_ROWS = 20_000
MAXIMUM_FEATURES = 100_000
# Of the linear support vector machine; of the ridge regression it is the penalty's inverse.
STRENGTHS = (0.1, 1.0, 10.0)
FOLDS = 3
CHOOSING_ROWS = 3000


class TfidfModel:
    """A linear support vector machine, or a ridge regression, on TF-IDF; its strength is chosen by cross-validation."""

    def __init__(self, labels: Sequence[str], seed: int = 0) -> None:
        self._labels, self._seed = list(labels), seed
        self._words: FeatureUnion
        self._head: LinearSVC | Ridge

    @property
    def parameters(self) -> int:
        """Numbers that were fitted."""
        return int(self._head.coef_.size + np.size(self._head.intercept_))

    @property
    def megabytes(self) -> float:
        """Weights in float32 and the vocabulary with its weights, in MB of 10^6 bytes."""
        words = [word for _, part in self._words.transformer_list for word in part.vocabulary_]
        return (4 * self.parameters + sum(len(word.encode()) + 8 for word in words)) / 1e6

    def fit(self, texts: Sequence[str], pairs: Sequence[str] | None, targets: Sequence[str | float]) -> None:
        """Fit on training rows; classes without a row are never answered."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        options = {"sublinear_tf": True, "max_features": MAXIMUM_FEATURES, "dtype": np.float32}
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **options)
        pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), **options)
        self._words = FeatureUnion([("words", words), ("pieces", pieces)])
        features, known = self._words.fit_transform(_joined(texts, pairs)).tocsr(), np.asarray(targets)
        self._head = self._made(self._strength(features, known)).fit(features, known)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Floats:
        """(rows, labels) scores that sum to one in the order of the labels, or (rows, 1) values.

        A support vector machine has no probabilities: these are the softmax of its margins, and rank as they do.
        """
        from scipy.special import softmax

        features = self._words.transform(_joined(texts, pairs))
        if not self._labels:
            return np.asarray(self._head.predict(features), np.float64).reshape(-1, 1)
        margins = np.asarray(self._head.decision_function(features), np.float64)
        if margins.ndim == 1:  # of two classes sklearn keeps one margin
            margins = np.stack([-margins, margins], axis=1)
        scores = np.zeros((len(margins), len(self._labels)))
        scores[:, [self._labels.index(label) for label in self._head.classes_]] = softmax(margins, axis=1)
        return scores

    def _made(self, strength: float) -> "LinearSVC | Ridge":
        from sklearn.linear_model import Ridge
        from sklearn.svm import LinearSVC

        return LinearSVC(C=strength, random_state=self._seed) if self._labels else Ridge(1 / strength)

    def _strength(self, features: "csr_matrix", targets: Floats) -> float:
        from sklearn.model_selection import KFold, cross_val_score

        drawn = np.random.default_rng(self._seed).permutation(len(targets))[:CHOOSING_ROWS]
        folds = KFold(min(FOLDS, len(drawn)), shuffle=True, random_state=self._seed)
        scores = [
            float(np.mean(cross_val_score(self._made(one), features[drawn], targets[drawn], cv=folds)))
            for one in STRENGTHS
        ]
        return STRENGTHS[int(np.argmax(scores))]


def _joined(texts: Sequence[str], pairs: Sequence[str] | None) -> Sequence[str]:
    return texts if pairs is None else [f"{text}\n{other}" for text, other in zip(texts, pairs, strict=True)]
