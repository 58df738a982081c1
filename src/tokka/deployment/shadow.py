"""The shadow: champion and challenger asked for the same inputs, off the live path.

Live inputs come first, held-out rows of the challenger's own test set are replayed after them. An input is used
once: asking it again is no new evidence.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tokka.deployment.inputs import Input
from tokka.deployment.judge.evidence import Pairs, compare, is_sound
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer, Question
from tokka.deployment.traffic_columns import NO_CHANGE

BATCH = 50


@dataclass
class Pair:
    """Both answers to one input; `turn` counts the differences in the order in which they became known."""

    entry: Input
    champion: Answer
    challenger: Answer
    difference: float
    disagreement: float
    turn: float = math.inf


class Shadow:
    """The paired answers of one rollout.

    `ask` as `Target.infer`; `scale` is the unit of a value's error, None for classes; slower than `slow_ms` is slow.
    `renamed`: what became of classes (`data.labels`); answers are compared under the new names. Where the champion
    names a class that was retired, and no label tells, there is nothing to compare with.
    """

    def __init__(
        self, ask: Callable[[str, Sequence[Question]], list[Answer]], scale: float | None, slow_ms: float,
        renamed: Mapping[str, str] = NO_CHANGE,
    ) -> None:  # fmt: skip
        self._ask, self._scale, self._slow_ms, self._renamed = ask, scale, slow_ms, renamed
        self._waiting: dict[str, Input] = {}
        # None where the champion had no answer to compare with.
        self._asked: dict[str, Pair | None] = {}
        self._turns = itertools.count()
        self._failed = 0
        self._givers: dict[str, int] = {}

    def ask_more(
        self, champion: Revision, challenger: Revision, live: Iterable[Input], replay: Iterable[Input]
    ) -> Pairs:
        """Ask both for the next unused inputs, live ones first, and return all pairs so far.

        `live` are those that are new since the last call, or whose target is; `replay` all, always in the same order.
        """
        for entry in live:
            self._offer(entry)
        batch = self._next(replay)
        rows = [entry.as_row() for entry in batch]
        # At the same time: what else the machine does then slows both down, and not the one that was asked second.
        with ThreadPoolExecutor(max_workers=2) as pool:
            answers = pool.map(self._ask, (champion.digest, challenger.digest), (rows, rows)) if rows else ((), ())
            # Only now: what could not be asked because nothing answered may be asked again.
            for entry, old, new in zip(batch, *answers, strict=True):
                self._add(entry, old, new)
        return self._so_far(exhausted=len(batch) < BATCH)

    def wanted(self) -> list[Pair]:
        """The disagreements that a label would settle, in the order in which they were seen."""
        return [one for one in self._pairs if _is_open(one) and one.entry.prediction_id]

    @property
    def answers(self) -> tuple[list[Answer], list[Answer]]:
        """What the champion and the challenger said, pair by pair."""
        return [one.champion for one in self._pairs], [one.challenger for one in self._pairs]

    @property
    def _pairs(self) -> list[Pair]:
        return [one for one in self._asked.values() if one is not None]

    def _so_far(self, *, exhausted: bool) -> Pairs:
        slow = [[answer.latency_ms > self._slow_ms for answer in side] for side in self.answers]
        facts = [
            (one.difference, one.disagreement, one.turn, one.entry.replayed, self._number_of(one.entry.giver))
            for one in self._pairs
        ]
        difference, disagreement, turn, replayed, giver = np.array(facts, dtype=np.float64).reshape(-1, 5).T
        return Pairs(
            difference, disagreement, speed=np.subtract(*np.array(slow, dtype=np.float64)), replayed=replayed,
            giver=giver, order=np.argsort(turn, kind="stable"), failed=self._failed, exhausted=exhausted,
        )  # fmt: skip

    def _number_of(self, giver: str) -> float:
        return float(self._givers.setdefault(giver, len(self._givers))) if giver else math.nan

    def _offer(self, entry: Input) -> None:
        """Let an input wait its turn; of one that was asked before, put in what has been said about it since."""
        if entry.key not in self._asked:
            known = self._waiting.get(entry.key)
            bare = known is not None and (known.target is None or bool(known.giver and not entry.giver))
            if known is None or (bare and entry.target is not None):
                self._waiting[entry.key] = entry
        elif (pair := self._asked[entry.key]) and entry.target is not None and _is_open(pair, entry.giver):
            told = replace(pair.entry, giver=entry.giver)
            self._asked[entry.key] = self._compare(told, pair.champion, pair.challenger, entry.target)

    def _add(self, entry: Input, old: Answer, new: Answer) -> None:
        self._waiting.pop(entry.key, None)
        self._failed += not is_sound(new, self._scale)
        self._asked[entry.key] = self._compare(entry, old, new, entry.target)

    def _compare(self, entry: Input, old: Answer, new: Answer, target: str | float | None) -> Pair | None:
        retired = self._renamed.get(old.label) == ""
        old, new = (one.model_copy(update={"label": self._renamed.get(one.label) or one.label}) for one in (old, new))
        compared = None if retired and target is None else compare(old, new, target, self._scale)
        if compared is None:
            return None
        return Pair(entry, old, new, *compared, math.inf if math.isnan(compared[0]) else next(self._turns))

    def _next(self, replay: Iterable[Input]) -> list[Input]:
        # What was replayed through the gateway before waits behind live inputs that came since.
        waiting = sorted(self._waiting.values(), key=lambda entry: entry.replayed)
        unused = itertools.chain(waiting, (entry for entry in replay if entry.key not in self._asked))
        chosen: dict[str, Input] = {}
        for entry in unused:
            if len(chosen) < BATCH:
                chosen.setdefault(entry.key, entry)
        return list(chosen.values())


def _is_open(pair: Pair, giver: str = "") -> bool:
    """Whether a label would say more: there is none yet, or one of a caller that we trust less than this one."""
    return math.isnan(pair.difference) or bool(pair.entry.giver and not giver and pair.disagreement)
