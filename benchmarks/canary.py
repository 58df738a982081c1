"""How often a canary judge errs, and what that costs: Tokka beside three judges that people use.

    python -m benchmarks.canary                        # 1,000 rollouts per cell
    python -m benchmarks.canary --rollouts 200 --rates 2

Each rollout is simulated request by request. The peers and their settings are in canary_peers.py; they decide within
30 minutes. Tokka looks after every request with the functions of tokka.deployment.betting and the default params, and
goes on until it has decided, in each phase for two hours at most; what is undecided then is held, so not promoted.

Wrong is: promoted although it is bad; rolled back on alleged evidence although it is sound.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from benchmarks.canary_peers import argo, flagger, mann_whitney
from benchmarks.canary_world import CASES, Case, Floats, Outcome, Requests, latencies, like, simulate
from tokka.deployment import betting
from tokka.deployment.judge import METRICS
from tokka.params import Canary

# slow_ms is what an owner of this service would choose: 1.4 % of its sound answers take longer.
CANARY = Canary(slow_ms=150.0, maximum_wait_s=7200.0)
BACK, GOOD = math.log(len(METRICS) / CANARY.alpha), math.log(1.0 / CANARY.alpha)
NEVER = 10**12
# Held-out rows are replayed at this rate when live traffic is slower, in requests per second.
REPLAY_RATE = 50.0
MOST_PAIRS = 20_000
BAR_WRONG, BAR_LABELS = 0.05, 50

Judge = Callable[[Case, float, np.random.Generator], Outcome]


def tokka(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """Shadow, then steps of live traffic."""
    shadow = _shadow(case, rate, random)
    if shadow.verdict != "promote":
        return shadow
    steps = _steps(case, rate, random)
    return replace(steps, minutes=steps.minutes + shadow.minutes, labels=shadow.labels)


def _shadow(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """Pairs of answers off the live path: nothing is exposed, and a label is asked for each disagreement.

    A slow model is slow here too. Failures are taken to be of the kind that only live traffic brings out.
    """
    difference, speed = np.empty(0), np.empty(0)
    while True:
        more = max(1000, difference.size)
        difference = np.concatenate([difference, _draw_quality(case, more, random)])
        speed = np.concatenate([speed, _draw_speed(case, more, random)])
        back = min(_first(betting.against_no_worse(column), BACK) for column in (difference, speed))
        labelled = betting.against_worse_by(difference, CANARY.quality_margin)
        label_free = betting.against_disagreement(np.abs(difference), CANARY.quality_margin)
        good = max(_first(np.logaddexp(labelled, label_free) - math.log(2.0), GOOD), CANARY.shadow_rows)
        verdict, end = _verdict(back, good, difference.size)
        if verdict != "hold" or difference.size >= MOST_PAIRS:
            return Outcome(verdict, 0, end / max(rate, REPLAY_RATE) / 60, int((difference[:end] != 0).sum()))


def _draw_quality(case: Case, n: int, random: np.random.Generator) -> Floats:
    better = (case.disagreement - (case.accuracy[0] - case.accuracy[1])) / 2
    draw = random.random(n)
    difference: Floats = np.where(draw < better, 1.0, np.where(draw < case.disagreement, -1.0, 0.0))
    return difference


def _draw_speed(case: Case, n: int, random: np.random.Generator) -> Floats:
    champion, challenger = (latencies(slowdown, n, random) > CANARY.slow_ms for slowdown in (1.0, case.slowdown))
    difference: Floats = champion.astype(float) - challenger.astype(float)
    return difference


def _steps(case: Case, rate: float, random: np.random.Generator) -> Outcome:
    """Live requests at rising shares, until something is proven."""
    most = int(rate * CANARY.maximum_wait_s)
    requests = Requests(*[np.empty(0)] * 5)
    while True:
        numbers = np.arange(requests.share.size, min(most, max(2000, 2 * requests.share.size)), dtype=np.float64)
        requests = _joined(requests, simulate(case, _ramp(numbers), numbers / rate / 60, random))
        slow = ((requests.latency_ms > CANARY.slow_ms) & (requests.failed == 0)).astype(float)
        back = min(_first_event(event, requests) for event in (requests.failed, slow))
        proofs = [_proof(CANARY.error_margin, requests.failed, requests), _proof(CANARY.slow_margin, slow, requests)]
        good = max(*proofs, len(CANARY.steps) * CANARY.step_requests)
        verdict, end = _verdict(back, good, requests.share.size)
        if verdict != "hold" or requests.share.size >= most:
            return Outcome(verdict, int(requests.canary[:end].sum()), end / rate / 60)


def _ramp(numbers: Floats) -> Floats:
    """The share at the n-th request: each step has its `step_requests`, the last one goes on."""
    step = np.minimum(numbers // CANARY.step_requests, len(CANARY.steps) - 1)
    return np.asarray(np.take(CANARY.steps, step.astype(int)), dtype=np.float64)


def _joined(one: Requests, other: Requests) -> Requests:
    return Requests(*(np.concatenate(pair) for pair in zip(astuple(one), astuple(other), strict=True)))


def _verdict(back: int, good: int, n: int) -> tuple[str, int]:
    """What is reached first, and after how many observations."""
    end = min(back, good, n)
    return ("hold" if end == n < min(back, good) else "roll_back" if back <= good else "promote"), end


def _first(log_e: Floats, limit: float) -> int:
    """How many observations it takes to reach a limit."""
    reached = log_e >= limit
    return int(np.argmax(reached)) + 1 if reached.any() else NEVER


def _first_event(event: Floats, requests: Requests) -> int:
    at = np.flatnonzero(event)
    number = _first(betting.excess_on_canary(requests.canary[at], requests.share[at]), BACK)
    return int(at[number - 1]) + 1 if number < NEVER else NEVER


def _proof(margin: float, event: Floats, requests: Requests) -> int:
    return _first(betting.against_excess_of(margin, event, requests.canary, requests.share), GOOD)


JUDGES: dict[str, Judge] = {
    "tokka": tokka,
    "argo template": argo,
    "flagger default": flagger,
    "mann-whitney": mann_whitney,
}


@dataclass(frozen=True)
class Cell:
    """Shares of the verdicts, and medians of the costs."""

    judge: str
    case: Case
    rate: float
    promoted: float
    rolled_back: float
    held: float
    exposed: float
    minutes: float
    labels: float

    @property
    def wrong(self) -> float:
        """The share of wrong decisions; holding is none."""
        return self.promoted if self.case.is_bad else self.rolled_back


def measure(name: str, case: Case, rate: float, rollouts: int, seed: int) -> Cell:
    """Simulate one cell of the table."""
    random = np.random.default_rng([seed, list(JUDGES).index(name), int(rate * 10), CASES.index(case)])
    outcomes = [JUDGES[name](case, rate, random) for _ in range(rollouts)]
    verdicts = [outcome.verdict for outcome in outcomes]
    shares = [verdicts.count(verdict) / rollouts for verdict in ("promote", "roll_back", "hold")]
    costs = [[getattr(outcome, cost) for outcome in outcomes] for cost in ("exposed", "minutes", "labels")]
    return Cell(name, case, rate, *shares, *(float(np.median(cost)) for cost in costs))


def table(cells: Sequence[Cell]) -> str:
    """All cells as Markdown, one table per case."""
    lines = []
    for case in CASES:
        what = "bad: promoting it is wrong" if case.is_bad else "sound: rolling it back is wrong"
        lines += ["", f"### {case.name} ({what})", ""]
        lines.append("| judge | requests/s | promoted | rolled back | held | wrong | exposed | minutes | labels |")
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for cell in (cell for cell in cells if cell.case == case):
            shares = f"{cell.promoted:.3f} | {cell.rolled_back:.3f} | {cell.held:.3f} | **{cell.wrong:.3f}**"
            costs = f"{cell.exposed:.0f} | {cell.minutes:.1f} | {cell.labels:.0f}"
            lines.append(f"| {cell.judge} | {cell.rate:g} | {shares} | {costs} |")
    return "\n".join(lines)


def missed(cells: Sequence[Cell]) -> list[str]:
    """What of the bar does not hold; empty when all of it does."""
    found = []
    for cell in (cell for cell in cells if cell.judge == "tokka"):
        where = f"{cell.case.name} at {cell.rate:g}/s"
        if cell.wrong > BAR_WRONG:
            found.append(f"{where}: wrong in {cell.wrong:.3f}")
        if cell.case.accuracy[1] < cell.case.accuracy[0] and cell.labels > BAR_LABELS:
            found.append(f"{where}: {cell.labels:.0f} labels")
        for rival in rivals(cells, cell):
            if rival.exposed < cell.exposed:
                found += [f"{where}: {rival.judge} exposes {rival.exposed:.0f}, Tokka {cell.exposed:.0f}"]
    return found


def rivals(cells: Sequence[Cell], mine: Cell) -> list[Cell]:
    """Judges that hold both error rates here: in this bad case, and with the same champion and no difference."""
    if not mine.case.is_bad:
        return []
    at = {(cell.judge, cell.case): cell for cell in cells if cell.rate == mine.rate}
    pairs = [(at[name, mine.case], at[name, like(mine.case)]) for name in JUDGES if name != "tokka"]
    return [bad for bad, sound in pairs if max(bad.wrong, sound.wrong) <= BAR_WRONG]


def main() -> int:
    """Print the tables; exit code 1 when Tokka misses the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1000, help="per cell")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 2.0, 20.0], help="requests per second")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    began, cells = time.monotonic(), []
    for case in CASES:
        for rate in chosen.rates:
            cells += [measure(name, case, rate, chosen.rollouts, chosen.seed) for name in JUDGES]
        print(f"{case.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(cells))
    print(f"\n{chosen.rollouts} rollouts per cell, seed {chosen.seed}, {time.monotonic() - began:.0f} s.")
    misses = missed(cells)
    print("The bar holds." if not misses else "\n".join(["Missed:", *(f"- {miss}" for miss in misses)]))
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
