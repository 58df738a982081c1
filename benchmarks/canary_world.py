"""What the canary benchmark simulates: cases, requests, and what came of a rollout."""

from dataclasses import astuple, dataclass

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
    # So many users send all requests, each stays on its side, and a twentieth of them fails in two of five requests on
    # either side; 0: each request is a user of its own.
    users: int = 0

    @property
    def is_bad(self) -> bool:
        """Whether promoting it would be wrong."""
        return self.errors[0] < self.errors[1] or self.slowdown > 1 or self.accuracy[1] < self.accuracy[0]


SOUND = Case("no difference, 0.5 % errors")
SOUND_NOISY = Case("no difference, 2 % errors", errors=(0.02, 0.02))
SOUND_USERS = Case("no difference, 300 users, 2 % errors of a few of them", errors=(0.02, 0.02), users=300)
CASES = (
    SOUND,
    SOUND_NOISY,
    SOUND_USERS,
    Case("errors 0.5 -> 3 %", errors=(0.005, 0.03)),
    Case("errors 2 -> 4 %", errors=(0.02, 0.04)),
    Case("accuracy 90 -> 85 %", accuracy=(0.90, 0.85), disagreement=0.09),
    Case("twice as slow", slowdown=2.0),
)


def like(case: Case) -> tuple[Case, ...]:
    """The sound cases with the same champion."""
    return tuple(sound for sound in CASES if not sound.is_bad and sound.errors[0] == case.errors[0])


@dataclass(frozen=True)
class Outcome:
    """One simulated rollout. exposed: requests that went to the canary; labels: how many were asked for."""

    verdict: str
    exposed: int
    minutes: float
    labels: int = 0


@dataclass(frozen=True)
class Requests:
    """n requests in the order of time; every column of shape (n,). minute: since the start. key: who asked."""

    minute: Floats
    share: Floats
    canary: Floats
    failed: Floats
    latency_ms: Floats
    key: Floats

    def before(self, n: int) -> "Requests":
        """The first n of them."""
        return Requests(*(column[:n] for column in astuple(self)))


@dataclass(frozen=True)
class Users:
    """bucket: (users,) in [0, 1), on the canary when below its share. failing: (users,) each one's rate of errors."""

    bucket: Floats
    failing: Floats

    @classmethod
    def draw(cls, case: Case, random: np.random.Generator) -> "Users":
        """The users of one rollout; none where each request is a user of its own."""
        at_fault = random.permutation(case.users) < round(0.05 * case.users)
        return cls(random.random(case.users), np.where(at_fault, 20 * case.errors[0], 0.0))


def simulate(
    case: Case, share: Floats, minute: Floats, random: np.random.Generator, users: Users | None = None
) -> Requests:
    """Requests at these moments and shares, of users that were drawn before or are drawn here."""
    users, n = users or Users.draw(case, random), share.size
    key = random.integers(0, case.users, n) if case.users else random.random(n)
    bucket = users.bucket[key] if case.users else random.random(n)
    canary = (bucket < share).astype(float)
    rate = users.failing[key] if case.users else np.where(canary == 1, case.errors[1], case.errors[0])
    failed = (random.random(n) < rate).astype(float)
    slowdown = np.where(canary == 1, case.slowdown, 1.0)
    return Requests(minute, share, canary, failed, latencies(slowdown, n, random), key.astype(float))


def join(one: Requests, other: Requests) -> Requests:
    """First these, then those."""
    return Requests(*(np.concatenate(pair) for pair in zip(astuple(one), astuple(other), strict=True)))


def latencies(slowdown: Floats | float, n: int, random: np.random.Generator) -> Floats:
    """n latencies in milliseconds."""
    drawn: Floats = slowdown * MEDIAN_MS * np.exp(SPREAD * random.standard_normal(n))
    return drawn
