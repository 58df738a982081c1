"""Inputs to compare two models on: live ones from the request log, and held-out rows of the challenger's own test set.

No input is given that the challenger may have been trained on.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tokka.data import normalising
from tokka.data.preparation import splitting
from tokka.data.rows import Row
from tokka.deployment.judge.evidence import number
from tokka.deployment.record.target import Question
from tokka.deployment.traffic_columns import NO_CHANGE, LogRecord, bounded_caller, said
from tokka.params import Params

# Logged inputs older than this may come from another world than today's traffic.
RECENT_S = 3600.0


@dataclass(frozen=True)
class Input:
    """One input for both; `target` is None while no feedback told it."""

    text: str
    pair: str = ""
    target: str | float | None = None
    replayed: bool = False
    # Where an answer about it would go; not part of what makes two inputs the same.
    prediction_id: str = field(default="", compare=False)
    # Who told the target, where that caller's weight is bounded.
    giver: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """Two inputs that read the same are one."""
        return f"{normalising.key(self.text)}\n{normalising.key(self.pair)}"

    def as_row(self) -> Question:
        """The form in which a target is asked."""
        return {"text": self.text, "text_pair": self.pair} if self.pair else {"text": self.text}


class LiveInputs:
    """Logged live inputs that the challenger cannot have learned from, with the truth where feedback told it.

    `since` is when it was registered: what was logged later came too late for its training, and of what came before
    only texts that the split's hash keeps for the test are used. `classes` and `renamed` as for `said`.
    """

    def __init__(
        self, params: Params, *, since: float, classes: Collection[str] = (), renamed: Mapping[str, str] = NO_CHANGE
    ) -> None:
        self._params, self._since, self._classes, self._renamed = params, since, classes, renamed
        self._known: dict[str, Input] = {}
        self._truth: dict[str, tuple[str | float | None, str]] = {}

    def take(self, records: Iterable[LogRecord]) -> list[Input]:
        """The inputs that are new, and those whose truth has become known; live ones before replayed ones."""
        changed: dict[str, Input] = {}
        for record in records:
            name = str(record.get("prediction_id"))
            if record.get("kind") == "feedback":
                found = self._known.get(name) if self._is_news(name, record) else None
            else:
                found = self._input(name, record) if record.get("kind") == "prediction" else None
            if found is not None:
                target, giver = self._truth.get(name, (None, ""))
                self._known[name] = changed[name] = replace(found, target=target, giver=giver)
        return sorted(changed.values(), key=lambda entry: entry.replayed)

    def _is_news(self, name: str, record: LogRecord) -> bool:
        """Keep the first truth that is told of a prediction, and the first of a caller that we trust."""
        giver, (known, by) = bounded_caller(record), self._truth.get(name, (None, ""))
        told = said(record, self._classes, self._renamed)
        if told is None or (known is not None and (giver or not by)):
            return False
        self._truth[name] = told, giver
        return True

    def _input(self, name: str, record: LogRecord) -> Input | None:
        if not record.get("text"):
            return None
        text, pair = str(record["text"]), str(record.get("text_pair") or "")
        found = Input(text, pair, replayed=bool(record.get("replayed")), prediction_id=name)
        return found if number(record["time"]) >= self._since or is_held_out(found, self._params) else None


def is_held_out(entry: Input, params: Params) -> bool:
    """Whether preprocessing would have put this text into the test split, by its hash alone."""
    if params.data.test or params.task.group:
        return False
    shares = params.preprocessing
    row = Row(text=entry.text, text_pair=entry.pair, target="", group="", time="", slices=())
    split = splitting.membership(row, validation_share=shares.validation_share, test_share=shares.test_share)
    return split == "test"


def replay_inputs(path: Path, seed: int) -> list[Input]:
    """The challenger's held-out test rows in a random order; rows sorted by class would mislead a bettor."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    order = np.random.default_rng(seed).permutation(len(rows))
    inputs = [Input(row["text"], row.get("text_pair") or "", row["target"], replayed=True) for row in rows]
    return [inputs[index] for index in order]


def scale_of(inputs: Sequence[Input]) -> float:
    """The unit of a regression's errors: the standard deviation of the test targets."""
    targets = np.array([entry.target for entry in inputs if isinstance(entry.target, int | float)], dtype=np.float64)
    spread = float(targets.std()) if targets.size else 0.0
    return spread if np.isfinite(spread) and spread > 0 else 1.0
