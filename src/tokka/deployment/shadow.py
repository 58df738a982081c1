"""The shadow: champion and challenger asked for the same inputs, off the live path.

    shadow = Shadow(ask, scale, slow_ms)        # `ask` is the target's infer
    pairs = shadow.ask_more(champion, challenger, new_live_inputs, held_out_rows)

Live inputs come first, held-out rows of the challenger's own test set are replayed after them. An input is used
once: asking it again is no new evidence.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tokka.deployment.inputs import Input
from tokka.deployment.judge.evidence import Pairs, compare, compare_speed, is_sound
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer, Question

Ask = Callable[[str, Sequence[Question]], list[Answer]]

BATCH = 50


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
        self._ask, self._scale, self._slow_ms = ask, scale, slow_ms
        self._used: set[str] = set()
        self._waiting: dict[str, Input] = {}
        self._open: dict[str, Disagreement] = {}
        self._rows: list[tuple[float, float, float]] = []
        self._order: list[int] = []
        self._replayed: list[float] = []
        self._failed = 0
        self.answers: tuple[list[Answer], list[Answer]] = ([], [])

    def ask_more(
        self, champion: Revision, challenger: Revision, live: Iterable[Input], replay: Iterable[Input]
    ) -> Pairs:
        """Ask both for the next unused inputs, live ones first, and return all pairs so far.

        Args:
            live: those that are new since the last call, or whose target is.
            replay: all of them, always in the same order.
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
                self._used.add(entry.key)
                self._waiting.pop(entry.key, None)
                self._add(entry, old, new)
        return replace(
            Pairs.of(self._rows), order=np.array([*self._order, *(one.row for one in self._open.values())], np.intp),
            replayed=np.array(self._replayed), failed=self._failed, exhausted=len(batch) < BATCH,
        )  # fmt: skip

    def wanted(self) -> list[Disagreement]:
        """The disagreements that a label would settle, in the order in which they were seen."""
        return [one for one in self._open.values() if one.entry.prediction_id]

    def _offer(self, entry: Input) -> None:
        """Let an input wait its turn; of one that was asked before, put in what has been said about it since."""
        if entry.key not in self._used:
            waiting = self._waiting.get(entry.key)
            if waiting is None or entry.target is not None:
                self._waiting[entry.key] = entry
            return
        found = self._open.get(entry.key) if entry.target is not None else None
        compared = compare(found.champion, found.challenger, entry.target, self._scale) if found else None
        if found is not None and compared is not None:
            self._rows[found.row] = (*compared, self._rows[found.row][2])
            self._order.append(found.row)
            del self._open[entry.key]

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

    def _next(self, replay: Iterable[Input]) -> list[Input]:
        # What was replayed through the gateway before waits behind live inputs that came since.
        waiting = sorted(self._waiting.values(), key=lambda entry: entry.replayed)
        chosen = {entry.key: entry for entry in itertools.islice(waiting, BATCH)}
        for entry in replay:
            if len(chosen) >= BATCH:
                break
            if entry.key not in self._used:
                chosen.setdefault(entry.key, entry)
        return list(chosen.values())
