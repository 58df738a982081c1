"""The general baseline: what the un-tuned encoder can do, so that a specialist has to be worth its training.

Classification is zero-shot: a text gets the label whose name, read as words, has the nearest embedding; no row of
the data is used. Regression has no such thing as a label's name: the mean target of the nearest training texts in
the frozen encoder's space, which reads training rows and tunes no weight.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokka.evaluation.metrics.metrics import Floats, Integers
from tokka.training.setup.few_rows import label_words

if TYPE_CHECKING:
    from tokka.model.tokenising import Encoded

# Cosines lie close together; the scale that sentence-transformers trains with makes probabilities of them.
SIMILARITY_SCALE = 20.0
NEIGHBOURS = 20
# Enough neighbours to be fair, few enough to embed in seconds.
MAXIMUM_NEIGHBOUR_ROWS = 4000
BATCH = 64
BLOCK = 1024

NAMES = {
    "classification": "zero-shot by label names, un-tuned encoder",
    "regression": f"{NEIGHBOURS} nearest neighbours, un-tuned encoder",
}


def zero_shot(texts: Floats, labels: Floats) -> Floats:
    """Probabilities (rows, labels) from unit-length embeddings (rows, hidden) and (labels, hidden)."""
    from scipy.special import softmax

    return np.asarray(softmax(SIMILARITY_SCALE * (texts.astype(np.float64) @ labels.T.astype(np.float64)), axis=1))


def nearest_neighbours(texts: Floats, known: Floats, targets: Floats) -> Floats:
    """(rows, 1) mean target of each text's nearest known texts by cosine, in blocks so that memory stays small."""
    count = min(NEIGHBOURS, len(known))
    values = np.empty((len(texts), 1))
    for start in range(0, len(texts), BLOCK):
        near = texts[start : start + BLOCK] @ known.T
        best = np.argpartition(-near, count - 1, axis=1)[:, :count]
        values[start : start + BLOCK, 0] = targets[best].mean(axis=1)
    return values


class FrozenEncoder:
    """The base model as it came: mean-pooled, unit-length embeddings, one thread."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        import torch

        from tokka.model.configuration import has_token_types, read_encoder_config, token_capacity
        from tokka.model.network import Specialist, load_encoder
        from tokka.model.tokenising import TextEncoder

        torch.set_num_threads(1)
        config = read_encoder_config(folder / "config.json")
        self._tokens = TextEncoder(folder / "tokenizer.json", min(max_tokens, token_capacity(config)))
        self._types = has_token_types(config)
        self._padding = int(config.get("pad_token_id") or 0)
        # The head is not used; the network around it pools as training does.
        self._network = Specialist(load_encoder(folder), outputs=1, pooling="mean").eval()

    def embed(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Floats:
        """(rows, hidden) float32; texts of like length share a batch, since padding is what costs."""
        encoded = self._tokens.encode(texts, pairs)
        order = np.argsort(encoded.lengths, kind="stable")
        parts = [self._embed(encoded, order[start : start + BATCH]) for start in range(0, len(order), BATCH)]
        found = np.concatenate(parts)
        return np.asarray(found[np.argsort(order)])

    def _embed(self, encoded: "Encoded", rows: Integers) -> Floats:
        import torch

        from tokka.model.tokenising import pad

        ids, mask = pad([encoded.ids[row] for row in rows], self._padding)
        types = torch.from_numpy(pad([encoded.types[row] for row in rows])[0]) if self._types else None
        with torch.inference_mode():
            embedding = self._network.embed(torch.from_numpy(ids), torch.from_numpy(mask), types)
        return np.asarray(embedding.numpy(), np.float32)


class GeneralModel:
    """The general baseline as a model: texts in, scores (rows, labels) or values (rows, 1) out."""

    def __init__(self, folder: Path, max_tokens: int, labels: Sequence[str]) -> None:
        self._encoder = FrozenEncoder(folder, max_tokens)
        self._labels = self._encoder.embed([label_words(label) for label in labels]) if labels else None
        self._known: Floats = np.empty((0, 0))
        self._targets: Floats = np.empty(0)

    def learn_neighbours(self, texts: Sequence[str], pairs: Sequence[str] | None, targets: Floats) -> None:
        """Keep training texts to look up; only for regression."""
        self._known, self._targets = self._encoder.embed(texts, pairs), np.asarray(targets)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Floats:
        """Scores over the labels given at the start, or values."""
        embedded = self._encoder.embed(texts, pairs)
        if self._labels is not None:
            return zero_shot(embedded, self._labels)
        return nearest_neighbours(embedded, self._known, self._targets)
