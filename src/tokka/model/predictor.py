"""Ask a specialist: texts in, probabilities or values out; loads nothing that was altered.

The ONNX forms need tokenizers, onnxruntime and numpy; torch is imported for the torch form alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokka import files
from tokka.errors import Refused, UsageError
from tokka.model.configuration import check_encoder_config
from tokka.model.engines import Engine, onnx_engine, rows_per_run, run_in_batches, torch_engine
from tokka.model.folder import FORM_FILES, Form, ModelConfig, config_digest, verify_model
from tokka.model.tokenising import Encoded, TextEncoder


@dataclass(frozen=True)
class Predictions:
    """One row per text.

    scores: (rows, labels) probabilities after temperature, or (rows, 1) values for regression.
    embeddings: (rows, hidden) unit-length vectors. lengths: (rows,) tokens, the special ones included.
    unknown: (rows,) share of [UNK] tokens. names: the labels of the columns; empty for regression.
    """

    scores: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    lengths: NDArray[np.int64]
    unknown: NDArray[np.float64]
    names: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The most probable label of each row; empty for regression."""
        return [self.names[index] for index in self.scores.argmax(axis=1)] if self.names else []

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(rows,) probability of that label; ones for regression, which knows no confidence."""
        highest: NDArray[np.float32] = self.scores.max(axis=1) if self.names else np.ones(len(self.scores), np.float32)
        return highest

    @property
    def values(self) -> NDArray[np.float32]:
        """(rows,) values of a regression."""
        return self.scores[:, 0]


class Predictor:
    """One loaded form of one model; `digest` is the model folder's identity."""

    def __init__(self, config: ModelConfig, form: Form, encoder: TextEncoder, engine: Engine) -> None:
        self.config, self.form = config, form
        self.labels = config.labels
        self.task: Literal["classification", "regression"] = config.task
        self.digest = config_digest(config)
        self._encoder, self._engine = encoder, engine

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None, batch: int = 64) -> Predictions:
        """Score texts, in their own order; texts beyond `max_tokens` are cut. UsageError for pairs that do not fit."""
        return self.predict_encoded(self.encode(texts, pairs), batch)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encoded:
        """The first half of `predict`: at most `max_tokens` token ids of each text; raises what `predict` raises."""
        if self.config.text_pair and pairs is None:
            raise UsageError("this model compares two texts, and the second one is missing", "send text_pair too")
        if pairs is not None and not self.config.text_pair:
            raise UsageError("this model reads one text, and got two", "leave text_pair out")
        if pairs is not None and len(pairs) != len(texts):
            raise UsageError(f"{len(texts)} texts came with {len(pairs)} pairs", "send one pair for each text")
        return self._encoder.encode(texts, pairs)

    def predict_encoded(self, encoded: Encoded, batch: int = 64) -> Predictions:
        """The second half of `predict`, for rows in any number."""
        outputs = embeddings = np.empty((0, max(1, len(self.labels))), np.float32)
        if encoded.ids:
            size, padding, token_types = self.rows_per_run(batch), self.config.padding, self.config.token_types
            outputs, embeddings = run_in_batches(
                self._engine, encoded, batch=size, padding=padding, token_types=token_types
            )
        return Predictions(self._scores(outputs), embeddings, encoded.lengths, encoded.unknown, self.labels)

    def rows_per_run(self, batch: int) -> int:
        """How many of at most `batch` texts one run of the network takes: int8 takes one at a time."""
        return rows_per_run(self.form, batch)

    def count_tokens(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> int:
        """Tokens that `predict` would read, the special ones included."""
        return int(self._encoder.encode(texts, pairs).lengths.sum())

    def _scores(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.task == "regression" or not len(outputs):
            return outputs
        scaled = outputs / np.float32(self.config.temperature)
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        scores: NDArray[np.float32] = exponents / exponents.sum(axis=1, keepdims=True)
        return scores


def load_predictor(
    folder: Path, form: Form | None = None, threads: int = 1, digests: Mapping[str, str] | None = None
) -> Predictor:
    """Verify a model folder (`verify_model`) and load one form of it: what tokka.json says is served, or the one named.

    Refused when a byte changed, UsageError when the folder does not hold this form.
    """
    config = verify_model(folder, digests)
    form = form or config.serve
    if FORM_FILES[form] not in config.files:
        raise UsageError(f"{folder} holds no {form} form", "set export.onnx and export.int8, and train again")
    encoder = TextEncoder(_read(folder, config, "tokenizer.json"), config.max_tokens)
    content = _read(folder, config, FORM_FILES[form])
    if form != "torch":
        return Predictor(config, form, encoder, onnx_engine(content, threads))
    network = check_encoder_config(json.loads(_read(folder, config, "config.json")))
    return Predictor(config, form, encoder, torch_engine(config, network, content, threads))


def _read(folder: Path, config: ModelConfig, name: str) -> bytes:
    """The very bytes that are verified are the ones that are used: the file may change in between."""
    content = (folder / name).read_bytes()
    if files.digest_bytes(content) != config.files[name].sha256:
        raise Refused(f"{folder / name} changed while it was loaded", "fetch the model again")
    return content
