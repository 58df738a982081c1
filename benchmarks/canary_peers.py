"""Three canary judges that people use, re-implemented from their documentation.

- Argo Rollouts' template: 20, 40, 60, 80 % of traffic; every 5 minutes the canary's success rate must be at least
  95 %; more than three failed measurements abort (failureLimit 3). No latency, no quality.
- Flagger's built-in checks: 10 % more a minute up to 50 %; over each minute the canary's success rate must be at least
  99 % and its p99 at most 500 ms; one failed check rolls back, which is the default threshold. A minute without
  requests counts as passed.
- Kayenta's Mann-Whitney: per-minute error rate and mean latency of baseline and canary, at 10, 25 and 50 % for ten
  minutes each and judged after each; failing when the 98 % confidence interval of the shift lies above a quarter of
  its estimate (the Netflix judge's settings).
"""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.canary_world import Case, Floats, Outcome, Requests, Users, simulate

MINUTES = 30


def argo(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """The success-rate template of Argo Rollouts' documentation, over 30 minutes."""
    requests = _scheduled(case, rate, random, lambda minute: 0.2 * np.minimum(np.floor(minute / 7.5) + 1, 4))
    failures = 0
    for end in range(5, MINUTES + 1, 5):
        seen = (requests.minute >= end - 5) & (requests.minute < end) & (requests.canary == 1)
        failures += bool(seen.any()) and 1 - requests.failed[seen].mean() < 0.95
        if failures > 3:
            return _ended("roll_back", requests, end)
    return _ended("promote", requests, MINUTES)


def flagger(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """Flagger with its default threshold: the weight rises by 10 points after each minute that passes its checks."""
    exposed, users = 0, Users.draw(case, random)
    for minute, weight in enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1):
        n = random.poisson(rate * 60)
        requests = simulate(case, np.full(n, weight), np.full(n, float(minute)), random, users)
        mine = requests.canary == 1
        exposed += int(mine.sum())
        if mine.any() and not _flagger_passes(requests.failed[mine], requests.latency_ms[mine]):
            return Outcome("roll_back", exposed, minute)
    return Outcome("promote", exposed, 5)


def _flagger_passes(failed: Floats, latency_ms: Floats) -> bool:
    return bool(1 - failed.mean() >= 0.99 and np.quantile(latency_ms, 0.99) <= 500)


def mann_whitney(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """Kayenta's classifier, judged three times."""
    requests = _scheduled(case, rate, random, lambda minute: np.array([0.1, 0.25, 0.5])[(minute // 10).astype(int)])
    for end in range(10, MINUTES + 1, 10):
        for column in (requests.failed, requests.latency_ms):
            if _is_high(_per_minute(requests, column, 1, end), _per_minute(requests, column, 0, end)):
                return _ended("roll_back", requests, end)
    return _ended("promote", requests, MINUTES)


def _scheduled(case: Case, rate: float, random: np.random.Generator, share: Callable[[Floats], Floats]) -> Requests:
    minute = np.sort(random.random(random.poisson(rate * 60 * MINUTES))) * MINUTES
    return simulate(case, share(minute), minute, random)


def _ended(verdict: str, requests: Requests, minute: float) -> Outcome:
    return Outcome(verdict, int(requests.canary[requests.minute < minute].sum()), minute)


def _per_minute(requests: Requests, column: Floats, side: int, end: int) -> Floats:
    """The mean of a column for each minute that has a request on this side."""
    mine = (requests.canary == side) & (requests.minute < end)
    which = requests.minute[mine].astype(int)
    counts, sums = np.bincount(which, minlength=end), np.bincount(which, weights=column[mine], minlength=end)
    means: Floats = sums[counts > 0] / counts[counts > 0]
    return means


def _is_high(canary: Floats, baseline: Floats, tolerance: float = 0.25) -> bool:
    """Whether the 98 % confidence interval of the Hodges-Lehmann shift lies above `tolerance` of its estimate."""
    if min(canary.size, baseline.size) < 2:
        return False
    shifts = np.sort(np.subtract.outer(canary, baseline).ravel())
    deviation = math.sqrt(shifts.size * (canary.size + baseline.size + 1) / 12)
    # 2.326 is the normal quantile of 0.99.
    lower = shifts[int(max(0, math.floor(shifts.size / 2 - 2.326 * deviation)))]
    estimate = float(np.median(shifts))
    return estimate > 0 and bool(lower > tolerance * estimate)
