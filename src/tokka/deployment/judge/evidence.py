"""What a judge looks at: paired answers and judged requests as plain arrays."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.record.target import Answer

NOTHING = np.empty(0)
# A verdict is weighed without each of so many callers in turn; any other has less than a 64th of the events.
MOST_CALLERS = 64


@dataclass(frozen=True)
class Pairs:
    """Champion and challenger asked for the same n inputs.

    difference: (n,) the champion's loss minus the challenger's, in [-1, 1]; NaN where no label tells. For a class
        it is 1{challenger right} - 1{champion right}; for a value the difference of their absolute errors in units
        of `scale`, clipped.
    disagreement: (n,) a bound on |difference| that needs no label, in [0, 1].
    speed: (n,) 1{champion slow} - 1{challenger slow}.
    order: (n,) the positions in the order in which their differences became known, those that still are not last;
        a label may come long after its answers. Empty: as they stand.
    giver: (n,) a number for who told the label, where that caller's weight is bounded; NaN elsewhere. Empty: nowhere.
    replayed: (n,) 1 where the input was a replayed test row and not live traffic. Empty: none was.
    live: is there live traffic at all. exhausted: no further input can be had now.
    """

    difference: Floats = field(default_factory=lambda: NOTHING)
    disagreement: Floats = field(default_factory=lambda: NOTHING)
    speed: Floats = field(default_factory=lambda: NOTHING)
    order: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    replayed: Floats = field(default_factory=lambda: NOTHING)
    giver: Floats = field(default_factory=lambda: NOTHING)
    failed: int = 0
    live: bool = False
    exhausted: bool = False

    def without_any_caller(self) -> list["Pairs"]:
        """These pairs, and the same without the labels of each caller whose weight is bounded."""
        gone = [self.giver == one for one in heaviest(self.giver)]
        return [
            self,
            *(
                replace(self, difference=np.where(own & (self.disagreement > 0), np.nan, self.difference))
                for own in gone
            ),
        ]

    @property
    def from_live(self) -> NDArray[np.bool_]:
        """(n,) where the input was live traffic."""
        return self.replayed == 0 if self.replayed.size else np.ones(self.disagreement.size, dtype=bool)


@dataclass(frozen=True)
class Traffic:
    """n requests in the order in which they ended, each column of shape (n,).

    canary: 1 when the request was sent to the challenger. share: the challenger's share at that moment.
    failed, slow: 1 or 0. refused: 1 when the model server blamed the client (4xx); what the gateway refuses by itself
    is no request here. wrong: 1 or 0, NaN where no feedback came. replayed: 1 when the request was replayed.
    key: a number for whatever the split keeps on one side, such as a user; requests without one have a number each.
    told: when the first feedback came, seconds since 1970; NaN where none did.
    excused: 1 when the outcome says nothing of who answered. caller, giver: a number for who asked, and for who told
    what was right, where their weight is bounded; NaN where it is not.
    """

    canary: Floats = field(default_factory=lambda: NOTHING)
    share: Floats = field(default_factory=lambda: NOTHING)
    failed: Floats = field(default_factory=lambda: NOTHING)
    slow: Floats = field(default_factory=lambda: NOTHING)
    wrong: Floats = field(default_factory=lambda: NOTHING)
    replayed: Floats = field(default_factory=lambda: NOTHING)
    refused: Floats = field(default_factory=lambda: NOTHING)
    key: Floats = field(default_factory=lambda: NOTHING)
    told: Floats = field(default_factory=lambda: NOTHING)
    excused: Floats = field(default_factory=lambda: NOTHING)
    caller: Floats = field(default_factory=lambda: NOTHING)
    giver: Floats = field(default_factory=lambda: NOTHING)

    def __post_init__(self) -> None:
        """Who leaves out the last columns has no excuse and no bounded caller."""
        nobody = self.told * math.nan
        for name, column in (("excused", self.refused), ("caller", nobody), ("giver", nobody)):
            if getattr(self, name).size != self.size:
                object.__setattr__(self, name, column)

    @property
    def size(self) -> int:
        """How many requests these are."""
        return int(self.canary.size)

    @property
    def metrics(self) -> dict[str, Floats]:
        """What can be too much of, by metric: (n,) 1 where it happened."""
        return {"errors": self.failed, "slow": self.slow, "wrong": self.wrong, "refused": self.refused}

    def where(self, keep: NDArray[np.bool_ | np.intp]) -> "Traffic":
        """The requests that a boolean mask (n,) keeps, or those at these positions, in that order."""
        if keep.dtype == bool and np.all(keep):
            return self
        return Traffic(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})

    def usable(self) -> "Traffic":
        """The requests whose every column is in its range."""
        inside = (self.share >= 0) & (self.share <= 1)
        for column in (self.canary, self.failed, self.slow, self.refused, self.excused):
            inside &= (column == 0) | (column == 1)
        return self.where(inside & ((self.wrong == 0) | (self.wrong == 1) | np.isnan(self.wrong)))

    def answered(self) -> "Traffic":
        """The usable requests whose outcome says something of who answered."""
        usable = self.usable()
        return usable.where((usable.refused == 0) & (usable.excused == 0))

    def split(self) -> "Traffic":
        """The requests that the split drew; at a share of 0 or 1 all go one way, which tells nothing of either."""
        return self.where((self.share > 0) & (self.share < 1))

    def drawn(self) -> "Traffic":
        """The first request of each key: a split keeps a key on its side, so that all later ones are copies of it.

        Only the first was sent by somebody who could not know the side: so this comes before any choice by the outcome.
        """
        return self.where(np.sort(np.unique(self.key, return_index=True)[1]))

    def known(self, metric: str) -> "Traffic":
        """The requests on which a metric is known, in the order in which it became known."""
        known = self.where(np.isfinite(self.metrics[metric]))
        return known.where(np.argsort(known.told, kind="stable")) if metric == "wrong" else known


def heaviest(caller: Floats) -> Floats:
    """The callers of whom there is most among (n,) numbers, 64 at most; NaN is nobody whose weight is bounded."""
    names, counts = np.unique(caller[np.isfinite(caller)], return_counts=True)
    return np.asarray(names[np.argsort(-counts, kind="stable")][:MOST_CALLERS], dtype=np.float64)


def compare(champion: Answer, challenger: Answer, target: object, scale: float | None) -> tuple[float, float] | None:
    """(difference, disagreement) of one input; None when the champion itself has no answer to compare with.

    The true label or value, `target`, is None when unknown; `scale`, the unit of a value's error, is None for classes.
    """
    if not is_sound(champion, scale):
        return None
    if not is_sound(challenger, scale):
        # Without a label the champion's answer counts: to fail where it answers is a loss.
        return (-1.0 if target is None else _loss(champion, target, scale) - 1.0), 1.0
    apart = _loss(champion, challenger.label if scale is None else challenger.value, scale)
    if apart == 0.0:
        return 0.0, 0.0
    if target is None:
        return math.nan, apart
    return _loss(champion, target, scale) - _loss(challenger, target, scale), apart


def is_sound(answer: Answer, scale: float | None) -> bool:
    """Whether an answer says anything: a label without a `scale`, else a value; its numbers are finite."""
    finite = all(math.isfinite(found) for found in (answer.value, answer.score) if found is not None)
    return not answer.error and finite and (bool(answer.label) if scale is None else answer.value is not None)


def _loss(answer: Answer, target: object, scale: float | None) -> float:
    """In [0, 1]: 1 for another class; the distance from a value in units of `scale`, 1 at most."""
    if scale is None:
        return float(answer.label != str(target))
    return min(1.0, abs(number(answer.value) - number(target)) / scale)


def number(value: object) -> float:
    """A field of a record as a number; NaN when it is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
