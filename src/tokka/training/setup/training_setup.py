"""All that one fine-tuning works on, put together in the order in which it is needed."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types
from torch import Tensor

from tokka import progress
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError, UsageError
from tokka.model import profile
from tokka.model.base import BaseModelFolder
from tokka.model.configuration import EncoderConfig, has_token_types, read_encoder_config, token_capacity
from tokka.model.network import Specialist, load_encoder
from tokka.model.tokenising import TextEncoder
from tokka.params import Params
from tokka.training.setup.augmentation import AugmentedEpochs
from tokka.training.setup.datamodule import PreparedRows, Rows, Targets, read_rows
from tokka.training.setup.few_rows import resolved, with_names
from tokka.training.setup.precision import Precision, choose_device, has_fast_bf16
from tokka.training.setup.strategies import add_adapters, freeze
from tokka.training.setup.unlabelled import Unlabelled, read_unlabelled
from tokka.training.setup.vocabulary import TrimmedVocabulary

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

# On a processor, with dropout and texts of message length, plain attention trains 10 % faster than SDPA, and its
# ONNX form answers 10 % faster; longer texts need SDPA's small memory.
PLAIN_ATTENTION_TOKENS = 128
# More threads than this gain little at the batch sizes of a small encoder, and cost processor seconds.
USEFUL_THREADS = 4


class OtherNodes(Protocol):
    """The machines that take part in a training beside the one of rank 0, which alone asks them."""

    def begin(self, specification: Mapping[str, object], work: Path, port: int) -> None:
        """Have each of them start its ranks: with what is in `work`, for a group that meets at `port` of this one."""

    def wait_ready(self) -> None:
        """Wait until all of their ranks are about to join the group; TokkaError when one has ended before."""

    def failure(self) -> TokkaError | None:
        """Why a rank of theirs ended; None when none did, or nobody is there to say so."""

    def end(self) -> None:
        """Have them end the ranks of this group, whatever these are at."""


@dataclass
class TrainingSetup:
    """The model on its trimmed vocabulary, the rows in the same numbers, and the facts that export writes down.

    validation: the rows in the numbers of the full vocabulary. adapters: those of strategy lora, until they are merged.
    class_weights: (labels,). competes: the linear head is kept where it is better. unlabelled: texts to practise on
    first, and the table that they came from. others: the machines beside this one, where there are any.
    """

    params: Params
    base: BaseModelFolder
    prepared: Prepared
    config: EncoderConfig
    model: Specialist
    data: PreparedRows
    validation: Rows
    vocabulary: TrimmedVocabulary
    max_tokens: int
    adapters: "LoraModel | None" = None
    class_weights: Tensor | None = None
    competes: bool = False
    unlabelled: Unlabelled = field(default_factory=Unlabelled)
    unlabelled_file: Path | None = None
    others: OtherNodes | None = None

    def adjust(self, **changes: object) -> None:
        """Replace values of the finetuning section: what training found out in the place of what was asked."""
        finetuning = self.params.finetuning.model_copy(update=changes)
        self.params = self.params.model_copy(update={"finetuning": finetuning})
        self.data.params = finetuning

    @property
    def precision(self) -> Precision:
        """`finetuning.precision`; by now the timing has put a value in the place of `auto`."""
        asked = self.params.finetuning.precision
        assert asked != "auto", "the timing comes first"
        return asked

    def specification(self) -> dict[str, object]:
        """What another process makes the same training of, as plain data."""
        return {
            "params": self.params.model_dump(mode="json", exclude_none=True),
            "prepared": str(self.prepared.folder),
            "base": {"path": str(self.base.path), "name": self.base.name, "digest": self.base.digest},
            "unlabelled": str(self.unlabelled_file or ""),
        }


def prepare_training(
    prepared: Prepared, params: Params, base: BaseModelFolder, unlabelled: Path | None = None
) -> TrainingSetup:
    """Tokenise, load the encoder, trim its vocabulary; `unlabelled` is the table behind `adaptation.source`.

    Raises:
        TokkaError, UsageError: a split is empty, nothing can be learned, or params contradict each other.
        Refused: the base model's weights do not fit its configuration.
    """
    balanced, competes = params.finetuning.class_weights == "balanced", params.finetuning.strategy == "auto"
    config = read_encoder_config(base.path / "config.json")
    max_tokens = _bounded_tokens(params, config)
    encoder = TextEncoder(base.path / "tokenizer.json", max_tokens)
    train, validation = read_rows(prepared, "train", encoder), read_rows(prepared, "validation", encoder)
    check_targets(prepared, train, balanced)
    finetuning = resolved(params.finetuning, len(train.ids), len(prepared.labels))
    params = params.model_copy(update={"finetuning": finetuning})
    model, adapters = _build(prepared, params, base, train, max_tokens)
    changed = max(finetuning.augmentation.typos, finetuning.augmentation.case) > 0
    noise = AugmentedEpochs(prepared, encoder, finetuning) if changed else None
    train = train if changed else with_names(train, prepared.labels, params, encoder)
    practice = read_unlabelled(prepared, params, encoder, unlabelled)
    # The embeddings of these tokens stay, and of those that noise may make of them.
    noisy_ids = noise.used_ids(model.encoder.get_input_embeddings().num_embeddings) if noise else ()  # type: ignore[operator]
    used = (train.ids, validation.ids, practice.ids, [practice.special], noisy_ids)
    vocabulary = TrimmedVocabulary(model.encoder, chain.from_iterable(used))
    # Token types tell the texts of a pair apart; for single texts they are all zero and left out.
    token_types = params.task.text_pair is not None and has_token_types(config)
    setup = TrainingSetup(
        params=params, base=base, prepared=prepared, config=config, model=model,
        data=PreparedRows(train, validation, finetuning, vocabulary, token_types=token_types, noise=noise),
        validation=validation, vocabulary=vocabulary, max_tokens=max_tokens, adapters=adapters,
        class_weights=balanced_weights(train.targets) if balanced else None,
        competes=competes, unlabelled=practice.translated(vocabulary), unlabelled_file=unlabelled,
    )  # fmt: skip
    # There is nothing to time without bf16 arithmetic, or without a training step.
    steps = finetuning.strategy != "frozen" or params.adaptation.method != "none"
    if finetuning.precision == "auto" and not (steps and has_fast_bf16()):
        setup.adjust(precision="32")
    return setup


def balanced_weights(targets: Targets) -> Tensor:
    """A weight per class (labels,): rows / (labels * rows of the class), so that every class weighs the same."""
    from sklearn.utils.class_weight import compute_class_weight

    weights = compute_class_weight("balanced", classes=np.unique(targets), y=targets)
    return torch.from_numpy(weights.astype(np.float32))


def check_targets(prepared: Prepared, train: Rows, balanced: bool) -> None:
    """Refuse (TokkaError) fewer than two classes, a class without training rows, or a constant value."""
    if prepared.task == "regression":
        if balanced:
            hint = "set it to none"
            raise UsageError("finetuning.class_weights: balanced needs classes, the task is regression", hint)
        if float(np.ptp(train.targets)) == 0.0:
            raise TokkaError("every training target has the same value", "check task.target")
        return
    if len(prepared.labels) < 2:
        raise TokkaError(
            f"there is one class only: {', '.join(prepared.labels) or 'none'}", "a classifier needs two or more"
        )
    counts = Counter(train.targets.tolist())
    absent = [label for index, label in enumerate(prepared.labels) if not counts[index]]
    if absent:
        raise TokkaError(
            f"class {absent[0]!r} has no training row" + (f" (and {len(absent) - 1} more)" if absent[1:] else ""),
            "collect rows of it, or raise preprocessing.minimum_class_size so that it is dropped",
        )


@contextmanager
def own_randomness_and_threads(params: Params) -> Iterator[int]:
    """Seed and thread count for one training; the caller's are as before afterwards."""
    before = torch.get_num_threads()
    threads = params.finetuning.threads or min(USEFUL_THREADS, len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(), threadpool_limits(threads, user_api="blas"):
            torch.manual_seed(params.finetuning.seed)
            yield threads
    finally:
        torch.set_num_threads(before)


def _bounded_tokens(params: Params, config: EncoderConfig) -> int:
    capacity, asked = token_capacity(config), profile.max_tokens(params)
    if asked > capacity:
        progress.report("finetune", f"model.max_tokens {asked} is cut to the encoder's {capacity}")
    return min(asked, capacity)


def _build(
    prepared: Prepared, params: Params, base: BaseModelFolder, train: Rows, max_tokens: int
) -> tuple[Specialist, "LoraModel | None"]:
    outputs, finetuning = max(1, len(prepared.labels)), params.finetuning
    model = Specialist(load_encoder(base.path), outputs=outputs, pooling=params.model.pooling)
    if prepared.task == "regression":
        model.head.scale.fill_(float(np.std(train.targets, dtype=np.float64)))
        model.head.shift.fill_(float(np.mean(train.targets, dtype=np.float64)))
    freeze(model, finetuning)
    adapters = add_adapters(model.encoder, finetuning.lora) if finetuning.strategy == "lora" else None
    if choose_device() == "cpu" and max_tokens <= PLAIN_ATTENTION_TOKENS:
        model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    return model, adapters
