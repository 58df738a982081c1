"""The shadow: champion and challenger asked for the same inputs, off the live path.

    shadow = Shadow(sources, ask)        # `ask` is the target's infer
    pairs = shadow.ask_more(champion, challenger)

Live inputs come first, held-out rows of the challenger's own test set are replayed after them. An input is used
once: asking it again is no new evidence. No input is used that the challenger may have been trained on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tokka.data import normalising, splitting
from tokka.data.rows import Row
from tokka.deployment.evidence import Pairs, compare, compare_speed, is_sound, pairs_of
from tokka.deployment.state import Revision
from tokka.deployment.targets.base import Answer
from tokka.params import Params

Ask = Callable[[str, Sequence[dict[str, Any]]], list[Answer]]

BATCH = 50
# Logged inputs older than this may come from another world than today's traffic.
RECENT_S = 3600.0


@dataclass(frozen=True)
class Input:
    """One input for both; `target` is None when nobody has said what is right."""

    text: str
    pair: str = ""
    target: str | float | None = None
    replayed: bool = False
    # Where an answer about it would go; not part of what makes two inputs the same.
    prediction_id: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Two inputs that read the same are one."""
        return f"{normalising.key(self.text)}\n{normalising.key(self.pair)}"

    def as_row(self) -> dict[str, Any]:
        """The form in which a target is asked."""
        return {"text": self.text, **({"text_pair": self.pair} if self.pair else {})}


@dataclass(frozen=True)
class Disagreement:
    """An input on which the two differ and nobody has said who is right; `row` is its place among the pairs."""

    row: int
    entry: Input
    champion: Answer
    challenger: Answer


class Shadow:
    """The paired answers of one rollout.

    Args:
        ask: (digest, rows) to answers, as `Target.infer`.
        scale: the unit of a value's error; None for classes.
        slow_ms: an answer that takes longer is slow.
    """

    def __init__(self, ask: Ask, scale: float | None, slow_ms: float) -> None:
        self._ask = ask
        self._scale = scale
        self._slow_ms = slow_ms
        self._used: set[str] = set()
        self._rows: list[tuple[float, float, float]] = []
        self._order: list[int] = []
        self._open: dict[str, Disagreement] = {}
        self.answers: tuple[list[Answer], list[Answer]] = ([], [])
        self._replayed: list[float] = []
        self._failed = 0

    def ask_more(
        self, champion: Revision, challenger: Revision, live: Iterable[Input], replay: Iterable[Input]
    ) -> Pairs:
        """Ask both for the next unused inputs, live ones first, and return all pairs so far."""
        live = list(live)
        self._label(live)
        batch = self._next([*live, *replay])
        if batch:
            answers = self._ask_both(champion, challenger, [entry.as_row() for entry in batch])
            # Only now: what could not be asked because nothing answered may be asked again.
            self._used |= {entry.key for entry in batch}
            for entry, old, new in zip(batch, *answers, strict=True):
                self._add(entry, old, new)
        order = np.array([*self._order, *(one.row for one in self._open.values())], dtype=np.intp)
        replayed = np.array(self._replayed, dtype=np.float64)
        facts = {"order": order, "replayed": replayed, "failed": self._failed, "exhausted": len(batch) < BATCH}
        return pairs_of(self._rows, **facts)

    def wanted(self) -> list[Disagreement]:
        """The disagreements that a label would settle, in the order in which they were seen."""
        return [one for one in self._open.values() if one.entry.prediction_id]

    def _label(self, live: Iterable[Input]) -> None:
        """Put in what has been said since about inputs that were asked before."""
        for entry in live:
            found = self._open.get(entry.key) if entry.target is not None else None
            compared = compare(found.champion, found.challenger, entry.target, self._scale) if found else None
            if found is not None and compared is not None:
                self._rows[found.row] = (*compared, self._rows[found.row][2])
                self._order.append(found.row)
                del self._open[entry.key]

    def _ask_both(self, champion: Revision, challenger: Revision, rows: list[dict[str, Any]]) -> list[list[Answer]]:
        """At the same time: what else the machine does then slows both down, and not the one that was asked second."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(self._ask, (champion.digest, challenger.digest), (rows, rows)))

    def _add(self, entry: Input, old: Answer, new: Answer) -> None:
        self._failed += not is_sound(new, self._scale)
        compared = compare(old, new, entry.target, self._scale)
        if compared is None:
            return
        row = len(self._rows)
        for side, answer in zip(self.answers, (old, new), strict=True):
            side.append(answer)
        if np.isnan(compared[0]):
            self._open[entry.key] = Disagreement(row, entry, old, new)
        else:
            self._order.append(row)
        self._rows.append((*compared, compare_speed(old, new, self._slow_ms)))
        self._replayed.append(float(entry.replayed))

    def _next(self, inputs: Iterable[Input]) -> list[Input]:
        chosen: dict[str, Input] = {}
        for entry in inputs:
            if len(chosen) < BATCH and entry.key not in self._used:
                chosen.setdefault(entry.key, entry)
        return list(chosen.values())


def live_inputs(records: Iterable[Mapping[str, Any]], params: Params, *, since: float) -> list[Input]:
    """Logged live inputs that the challenger cannot have learned from, with the truth where feedback told it.

    Args:
        since: when the challenger was registered; what was logged later came too late for its training. Of what
            came before only texts that the split's hash keeps for the test are used.
    """
    records = list(records)
    truth = {str(entry["prediction_id"]): entry for entry in records if entry.get("kind") == "feedback"}
    inputs = []
    for entry in records:
        if entry.get("kind") != "prediction" or not entry.get("text"):
            continue
        target = _truth(truth.get(str(entry["prediction_id"])))
        name, pair = str(entry["prediction_id"]), str(entry.get("text_pair") or "")
        found = Input(str(entry["text"]), pair, target, bool(entry.get("replayed")), name)
        if float(entry["time"]) >= since or is_held_out(found, params):
            inputs.append(found)
    return sorted(inputs, key=lambda entry: entry.replayed)


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


def _truth(feedback: Mapping[str, Any] | None) -> str | float | None:
    if feedback is None:
        return None
    value = feedback.get("value")
    return float(value) if value is not None else feedback.get("label")
