"""How often a canary judge errs, and what that costs: Tokka beside three judges that people use.

    python -m benchmarks.canary                        # 1,000 rollouts per cell
    python -m benchmarks.canary --rollouts 200 --rates 2

Each rollout is simulated request by request. Tokka is its own code with its default params (canary_rollout.py), looked
at after every request, once with its 30 minutes a phase and once with two hours, for a service of few requests. The
peers and their settings are in canary_peers.py; they decide within 30 minutes.

Wrong is: promoted although it is bad; rolled back on alleged evidence although it is sound. Holding until the time is
up, which promotes nothing, is not wrong, but no use either: given two hours, from 2 requests a second on, Tokka must
also roll back what is bad, and promote what is sound, in four of five rollouts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.canary_peers import argo, flagger, mann_whitney
from benchmarks.canary_rollout import rollout
from benchmarks.canary_world import CASES, Case, Outcome, like
from tokka.sections_serving import Canary

BAR_WRONG, BAR_LABELS, BAR_POWER, BAR_POWER_RATE = 0.05, 50, 0.8, 2.0
LONG_S = 7200.0
# Few users are as few at any rate, and a judge that holds for two hours is slow to simulate.
MOST_USERS_RATE = 2.0

Judge = Callable[[Case, float, np.random.Generator], Outcome]
OURS: dict[str, Judge] = {
    "tokka": partial(rollout, canary=Canary()),
    "tokka, two hours": partial(rollout, canary=Canary(maximum_wait_s=LONG_S)),
}
JUDGES: dict[str, Judge] = {**OURS, "argo template": argo, "flagger default": flagger, "mann-whitney": mann_whitney}


@dataclass(frozen=True)
class Cell:
    """Shares of the verdicts; the mean of the exposed requests and of the minutes, the median of the labels."""

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
    def right(self) -> float:
        """The share of right decisions."""
        return self.rolled_back if self.case.is_bad else self.promoted

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
    exposed, minutes = (float(np.mean([getattr(one, cost) for one in outcomes])) for cost in ("exposed", "minutes"))
    return Cell(name, case, rate, *shares, exposed, minutes, float(np.median([one.labels for one in outcomes])))


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
    for cell in (cell for cell in cells if cell.judge in OURS):
        where = f"{cell.judge}, {cell.case.name} at {cell.rate:g}/s"
        if cell.wrong > BAR_WRONG:
            found.append(f"{where}: wrong in {cell.wrong:.3f}")
        if cell.case.accuracy[1] < cell.case.accuracy[0] and cell.labels > BAR_LABELS:
            found.append(f"{where}: {cell.labels:.0f} labels")
        long = cell.judge != "tokka" and cell.rate >= BAR_POWER_RATE
        if long and not cell.case.users and cell.right < BAR_POWER:
            found.append(f"{where}: right in {cell.right:.3f} only")
        for rival in rivals(cells, cell):
            if rival.exposed <= cell.exposed:
                found += [f"{where}: {rival.judge} exposes {rival.exposed:.0f}, Tokka {cell.exposed:.0f}"]
    return found


def rivals(cells: Sequence[Cell], mine: Cell) -> list[Cell]:
    """Judges that hold both error rates here: in this bad case, and with the same champion and no difference."""
    if not mine.case.is_bad:
        return []
    at = {(cell.judge, cell.case): cell for cell in cells if cell.rate == mine.rate}
    names = [name for name in JUDGES if name not in OURS]
    sound = [case for case in like(mine.case) if (names[0], case) in at]
    return [
        at[name, mine.case] for name in names if max(at[name, case].wrong for case in (mine.case, *sound)) <= BAR_WRONG
    ]


def main() -> int:
    """Print the tables; exit code 1 when Tokka misses the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1000, help="per cell")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 2.0, 20.0], help="requests per second")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    began, cells = time.monotonic(), []
    with ProcessPoolExecutor() as pool:
        wanted = [
            (name, case, rate)
            for case in CASES
            for rate in chosen.rates
            for name in JUDGES
            if not case.users or rate <= MOST_USERS_RATE
        ]
        simulate = partial(measure, rollouts=chosen.rollouts, seed=chosen.seed)
        for cell in pool.map(simulate, *zip(*wanted, strict=True)):
            cells.append(cell)
            done = f"{len(cells)} of {len(wanted)} cells, {time.monotonic() - began:.0f} s"
            print(f"{done}: {cell.judge}, {cell.case.name}, {cell.rate:g}/s", file=sys.stderr, flush=True)
    print(table(cells))
    print(f"\n{chosen.rollouts} rollouts per cell, seed {chosen.seed}, {time.monotonic() - began:.0f} s.")
    misses = missed(cells)
    print("The bar holds." if not misses else "\n".join(["Missed:", *(f"- {miss}" for miss in misses)]))
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
