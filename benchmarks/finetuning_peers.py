"""The other ways to make a classifier of the same encoder and the same rows: what users would do without Tokka.

Each trains on `Prepared.train`, answers `Prepared.test`, and reports its own training's wall and processor seconds.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokka.data.preparation.prepared import Prepared

Floats = NDArray[np.floating[Any]]
EPOCHS, LEARNING_RATE = 3, 5e-5  # the Trainer's own defaults
SETFIT_BATCH = 32
TEXTS_PER_PAIR = 2


@dataclass
class Result:
    """One training: scores (test rows, classes) are probabilities; `seen` counts texts through the network."""

    scores: Floats
    seen: int
    seconds: float
    cpu_seconds: float
    memory_mb: float
    notes: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """Everything but the scores."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}


class Clock:
    """Wall and processor seconds of a block, and the peak memory of the process at its end, in MB of 10^6 bytes."""

    def __enter__(self) -> "Clock":
        self._wall, self._cpu = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu_seconds = time.monotonic() - self._wall, time.process_time() - self._cpu
        self.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    def result(self, scores: Floats, seen: int, **notes: float) -> Result:
        """The clock's figures with a training's answers."""
        return Result(scores, seen, self.seconds, self.cpu_seconds, self.memory_mb, notes)


def texts_and_targets(data: Prepared, split: str) -> tuple[list[str], NDArray[np.int64]]:
    """The texts of a split, and the number of each one's class."""
    table, places = data.split(split), {label: number for number, label in enumerate(data.labels)}
    return table.column("text").to_pylist(), np.array([places[name] for name in table.column("target").to_pylist()])


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits (rows, classes)."""
    from scipy.special import softmax as exact

    return np.asarray(exact(logits.astype(np.float64), axis=1))


def trainer(data: Prepared, base: Path, work: Path, *, batch: int, seed: int, bf16: bool, epochs: int = EPOCHS) -> Any:
    """The Hugging Face Trainer with its defaults, but for the batch size and precision that are given."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    class Encoded(torch.utils.data.Dataset[dict[str, Any]]):
        def __init__(self, texts: list[str], targets: NDArray[np.int64]) -> None:
            self.encoded = tokenizer(texts, truncation=True, max_length=128)
            self.targets = targets

        def __len__(self) -> int:
            return len(self.targets)

        def __getitem__(self, index: int) -> dict[str, Any]:
            row = {name: values[index] for name, values in self.encoded.items()}
            return {**row, "labels": int(self.targets[index])}

    tokenizer = AutoTokenizer.from_pretrained(base)
    arguments = TrainingArguments(
        output_dir=str(work), per_device_train_batch_size=batch, num_train_epochs=epochs, seed=seed, bf16=bf16,
        use_cpu=not torch.cuda.is_available(), save_strategy="no", report_to=[], disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(data.labels))
    found = Trainer(
        model=model, args=arguments, train_dataset=Encoded(*texts_and_targets(data, "train")),
        data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    found.test_rows = Encoded(*texts_and_targets(data, "test"))
    return found


def hugging_face(data: Prepared, base: Path, work: Path, *, batch: int, seed: int, bf16: bool) -> Result:
    """Three epochs at 5e-5 with a linear schedule, no warm-up, padded to the longest text of each batch."""
    runner = trainer(data, base, work, batch=batch, seed=seed, bf16=bf16)
    with Clock() as clock:
        runner.train()
    logits = runner.predict(runner.test_rows).predictions
    return clock.result(softmax(logits), EPOCHS * data.train.num_rows)


def setfit(data: Prepared, base: Path, work: Path, *, seed: int, bf16: bool, texts: int) -> Result:
    """SetFit (Tunstall et al., 2022): contrastive pairs, then a logistic regression; as many texts as ours saw."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    train_texts, train_targets = texts_and_targets(data, "train")
    test_texts, _ = texts_and_targets(data, "test")
    steps = texts // (SETFIT_BATCH * TEXTS_PER_PAIR)
    arguments = TrainingArguments(
        output_dir=str(work), batch_size=SETFIT_BATCH, max_steps=steps, seed=seed, use_amp=bf16, report_to="none",
        save_strategy="no", logging_strategy="no", show_progress_bar=False, sampling_strategy="undersampling",
    )  # fmt: skip
    model = SetFitModel.from_pretrained(str(base))
    rows = Dataset.from_dict({"text": train_texts, "label": train_targets.tolist()})
    runner = Trainer(model=model, args=arguments, train_dataset=rows)
    with Clock() as clock:
        runner.train()
    return clock.result(np.asarray(model.predict_proba(test_texts, as_numpy=True)), steps * SETFIT_BATCH * 2)


def frozen(data: Prepared, base: Path, work: Path, *, seed: int) -> Result:
    """The encoder as it is, and a logistic regression (C = 10) on its vectors."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    encoder = SentenceTransformer(str(base), device="cpu")
    train_texts, train_targets = texts_and_targets(data, "train")
    with Clock() as clock:
        features = encoder.encode(train_texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        head = LogisticRegression(C=10.0, max_iter=500, random_state=seed).fit(features * 10.0, train_targets)
    test = encoder.encode(texts_and_targets(data, "test")[0], normalize_embeddings=True, show_progress_bar=False)
    return clock.result(head.predict_proba(test * 10.0), len(train_texts))


PEERS: dict[str, Callable[..., Result]] = {
    "Hugging Face Trainer, batch 32": lambda data, base, work, seed, bf16, texts: hugging_face(
        data, base, work, batch=32, seed=seed, bf16=bf16
    ),
    "Hugging Face Trainer, its own batch 8": lambda data, base, work, seed, bf16, texts: hugging_face(
        data, base, work, batch=8, seed=seed, bf16=bf16
    ),
    "SetFit": lambda data, base, work, seed, bf16, texts: setfit(data, base, work, seed=seed, bf16=bf16, texts=texts),
    "frozen encoder + logistic regression": lambda data, base, work, seed, bf16, texts: frozen(
        data, base, work, seed=seed
    ),
}
