"""Kills whoever writes, just before and just after each write of a rollout, on a real stack: how soon all agree again.

    python -m benchmarks.crashes                 # 120 runs, about half an hour; --runs 10 for a short one

Gateway, workers, record, registry and the processes are real, the models are tiny. Somebody asks the gateway twenty
times a second from before the kill until ten seconds after all agree. A run is met when record, aliases, the gateway's
maps and the workers agree within ten seconds, no request failed, and each was answered by a version that the record
named.
Sites: record (compare-and-set), alias and tag (registry), map (the gateway's commands), start and stop (of a worker).
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.crash_world import LIMIT_S, Crashes, Outcome, Point, make_models
from tests.fixtures.ports import free_port
from tests.fixtures.world import World

RESULTS = Path(__file__).parent / "results" / "crashes.md"
SITES = ("record", "map", "start", "stop", "alias", "tag")


def series() -> list[Iterator[Point]]:
    """For a version that is promoted and one that is rolled back: the writes of a kind, in their order."""
    moments = ("before", "after")
    alone = [(*kind, "") for kind in itertools.product("23", SITES, moments)]
    in_a_row = itertools.product("2", ("record",), ("after",), moments)
    return [_writes(*kind) for kind in (*alone, *in_a_row)]


def _writes(version: str, site: str, moment: str, successor: str) -> Iterator[Point]:
    return (Point(site, moment, number, version, successor) for number in itertools.count(1))


def measure(crashes: Crashes, runs: int, linger_s: float) -> list[Outcome]:
    """The first write of each kind, then the second, to the last that there is, and all over again."""
    found: list[Outcome] = []
    left: list[Iterator[Point]] = []
    while len(found) < runs:
        left = left or series()
        for points in list(left):
            outcome = crashes.run(next(points), linger_s=linger_s)
            if outcome.reached:
                found.append(outcome)
                print(line(outcome), flush=True)
            else:
                left.remove(points)
            if len(found) == runs:
                break
        if not found:
            raise SystemExit("no write of a rollout was reached: see the logs of the stack")
    return found


def is_met(outcome: Outcome) -> bool:
    """Whether all agreed in time and nobody noticed."""
    return outcome.converged_s <= LIMIT_S and not outcome.failed and not outcome.strangers


def line(outcome: Outcome) -> str:
    """One run as it is printed."""
    trouble = "; ".join((*outcome.differences, *outcome.failed[:2], *outcome.strangers[:2]))
    said = f"{outcome.converged_s:5.2f} s, {outcome.asked} requests, {len(outcome.failed)} failed"
    return f"version {outcome.point.version} {outcome.point}: {said} {trouble}"


def table(found: list[Outcome]) -> list[str]:
    """The outcomes by site and moment."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        also = f", then {outcome.point.successor} its successor's" if outcome.point.successor else ""
        groups[f"{outcome.point.site}, {outcome.point.moment}{also}"].append(outcome)
    rows = [_row(name, group) for name, group in sorted(groups.items())]
    head = "| killed | runs | median s | highest s | requests | failed | of no named version |"
    return [head, "|---|---|---|---|---|---|---|", *rows, _row("all", found)]


def _row(name: str, group: list[Outcome]) -> str:
    seconds = [outcome.converged_s for outcome in group]
    counts = [sum(len(getattr(outcome, what)) for outcome in group) for what in ("failed", "strangers")]
    times = f"{statistics.median(seconds):.2f} | {max(seconds):.2f}"
    return f"| {name} | {len(group)} | {times} | {sum(one.asked for one in group)} | {counts[0]} | {counts[1]} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=120, help="how many rollouts are killed")
    parser.add_argument("--linger", type=float, default=LIMIT_S, help="seconds of requests after all agree")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "home", free_port(), make_models(Path(folder)))
        try:
            crashes = Crashes(world)
            crashes.prepare()
            found = measure(crashes, given.runs, given.linger)
        finally:
            world.close()
    met = sum(map(is_met, found))
    text = "\n".join([*table(found), "", f"{met} of {len(found)} runs met: all agree within {LIMIT_S:g} s, 0 failed"])
    print(text)
    head = f"# benchmarks/crashes.py --runs {len(found)} --linger {given.linger:g}"
    RESULTS.write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    return 0 if met == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
