"""What the canary benchmark simulates: cases, requests, and what came of a rollout."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Log-normal latencies of a sound answer, in milliseconds.
MEDIAN_MS, SPREAD = 40.0, 0.6


@dataclass(frozen=True)
class Case:
    """What is true: rates on the champion and on the canary, and how often the two models disagree."""

    name: str
    errors: tuple[float, float] = (0.005, 0.005)
    slowdown: float = 1.0
    accuracy: tuple[float, float] = (0.90, 0.90)
    disagreement: float = 0.05

    @property
    def is_bad(self) -> bool:
        """Whether promoting it would be wrong."""
        return self.errors[0] < self.errors[1] or self.slowdown > 1 or self.accuracy[1] < self.accuracy[0]


SOUND = Case("no difference, 0.5 % errors")
SOUND_NOISY = Case("no difference, 2 % errors", errors=(0.02, 0.02))
CASES = (
    SOUND,
    SOUND_NOISY,
    Case("errors 0.5 -> 3 %", errors=(0.005, 0.03)),
    Case("errors 2 -> 4 %", errors=(0.02, 0.04)),
    Case("accuracy 90 -> 85 %", accuracy=(0.90, 0.85), disagreement=0.09),
    Case("twice as slow", slowdown=2.0),
)


def like(case: Case) -> Case:
    """The sound case with the same champion."""
    return next(sound for sound in (SOUND, SOUND_NOISY) if sound.errors[0] == case.errors[0])


@dataclass(frozen=True)
class Outcome:
    """One simulated rollout. exposed: requests that went to the canary; labels: how many were asked for."""

    verdict: str
    exposed: int
    minutes: float
    labels: int = 0


@dataclass(frozen=True)
class Requests:
    """n requests in the order of time; every column of shape (n,). minute: since the start."""

    minute: Floats
    share: Floats
    canary: Floats
    failed: Floats
    latency_ms: Floats


def simulate(case: Case, share: Floats, minute: Floats, random: np.random.Generator) -> Requests:
    """Requests at these moments and shares."""
    n = share.size
    canary = (random.random(n) < share).astype(float)
    failed = (random.random(n) < np.where(canary == 1, case.errors[1], case.errors[0])).astype(float)
    slowdown = np.where(canary == 1, case.slowdown, 1.0)
    return Requests(minute, share, canary, failed, latencies(slowdown, n, random))


def latencies(slowdown: Floats | float, n: int, random: np.random.Generator) -> Floats:
    """n latencies in milliseconds."""
    drawn: Floats = slowdown * MEDIAN_MS * np.exp(SPREAD * random.standard_normal(n))
    return drawn
