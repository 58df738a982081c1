"""A real stack under load while it is steered and hurt: promotions, rollbacks and killed workers.

    python -m benchmarks.load                # 100 requests/s for 3 minutes; --seconds 20 for a short one

Gateway, workers, record and daemon are real; the models are tiny, so that the machine's cores measure the machinery.
Requests start by the clock and are timed from when they should have started: a stall counts for everybody it kept
waiting. First a calm stretch with the same split, then 5 promotions, 5 rollbacks and 5 SIGKILLs of workers.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fixtures.models import make_model
from tests.fixtures.ports import free_port
from tests.fixtures.world import NAME, World
from tokka.deployment.reconcile import rollback
from tokka.request_log import log

RATE = 100.0
SHARE = 0.3
CYCLES = 5
SPLIT_BAR, P99_BAR = 0.02, 2.0
KILL_PATIENCE_S = 60.0
# A request that is not answered within this has failed.
LIMIT_S = 15.0


@dataclass
class Stretch:
    """Requests of one stretch: statuses (0: no answer), latencies in milliseconds, what was said about failures."""

    statuses: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(status != 200 for status in self.statuses)

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.latencies, q))


@dataclass
class Result:
    """What the benchmark found; kills and changes that really happened."""

    calm: Stretch
    load: Stretch
    split_requests: int
    split_seen: float
    changes: int
    kills: int

    @property
    def p99_ratio(self) -> float:
        return self.load.quantile(0.99) / self.calm.quantile(0.99)


def drive(url: str, seconds: float, rate: float = RATE, limit_s: float = LIMIT_S) -> Stretch:
    """Requests started by the clock, whatever the earlier ones do."""
    return asyncio.run(_drive(url, seconds, rate, limit_s))


async def _drive(url: str, seconds: float, rate: float, limit_s: float) -> Stretch:
    found, began = Stretch(), time.perf_counter() + 0.1
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=url, timeout=limit_s, trust_env=False, limits=limits) as client:

        async def one(number: int) -> None:
            due = began + number / rate
            await asyncio.sleep(due - time.perf_counter())
            try:
                answer = await client.post("/predict", json={"text": f"my card {number} is late"})
                found.statuses.append(answer.status_code)
                if answer.status_code != 200:
                    found.errors.append(answer.text[:200])
            except httpx.HTTPError as error:
                found.statuses.append(0)
                found.errors.append(repr(error))
            found.latencies.append(1000 * (time.perf_counter() - due))

        await asyncio.gather(*(one(number) for number in range(int(seconds * rate))))
    return found


class Steering(threading.Thread):
    """Changes the record and kills workers at set times; `changes` and `kills` count what was done."""

    def __init__(self, world: World, seconds: float) -> None:
        super().__init__()
        self.world, self.slot = world, seconds / CYCLES
        self.changes = self.kills = 0

    def run(self) -> None:
        began = time.monotonic()
        for cycle in range(CYCLES):
            for part, act in ((0.3, self._kill), (0.7, self._promote), (0.85, self._rollback)):
                time.sleep(max(0.0, began + (cycle + part) * self.slot - time.monotonic()))
                act(cycle)

    def _kill(self, cycle: int) -> None:
        """Kill a ready worker of champion and challenger in turn; the last one killed may not be back yet."""
        until = time.monotonic() + KILL_PATIENCE_S
        while not (killed := self.world.kill("12"[cycle % 2])) and time.monotonic() < until:
            time.sleep(0.05)
        self.kills += len(killed)

    def _promote(self, cycle: int) -> None:
        one, two = self.world.revisions["1"], self.world.revisions["2"]
        self.world.change(champion=two, previous=one, challenger=None, share=0.0, phase="idle")
        self.changes += 1

    def _rollback(self, cycle: int) -> None:
        rollback(self.world.record, NAME, "benchmark")
        self.world.change(challenger=self.world.revisions["2"], phase="step", share=SHARE)
        self.changes += 1


def measure(
    world: World, seconds: float, say: Callable[[str], None], rate: float = RATE, limit_s: float = LIMIT_S
) -> Result:
    """Calm first, then the load with everything that happens in it; the stack must run, with version 1 serving."""
    world.challenge("2", SHARE)
    drive(world.url, 2.0, rate, limit_s)
    calm_seconds = max(5.0, seconds / 6)
    say(f"calm: {calm_seconds:.0f} s at {rate:.0f} requests/s")
    calm = drive(world.url, calm_seconds, rate, limit_s)
    say(f"load: {seconds:.0f} s, {CYCLES} promotions, {CYCLES} rollbacks, {CYCLES} killed workers")
    since, steering = time.time(), Steering(world, seconds)
    steering.start()
    load = drive(world.url, seconds, rate, limit_s)
    steering.join()
    requests, seen = split(world, since, len(load.statuses))
    return Result(calm, load, requests, seen, steering.changes, steering.kills)


def split(world: World, since: float, wanted: int) -> tuple[int, float]:
    """(requests at the wanted share, the part of them that the challenger answered), by the gateway's log."""

    def logged() -> list[dict]:
        return [one for one in log.read(world.settings.home / "requests", since) if one["kind"] == "request"]

    deadline = time.monotonic() + 60
    while len(logged()) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    here = [one for one in logged() if abs(one["share"] - SHARE) < 1e-6]
    return len(here), sum(one["canary"] and not one["stand_in"] for one in here) / max(1, len(here))


def lines(result: Result) -> list[str]:
    """The result as it is printed."""
    calm, load = result.calm, result.load
    rows = [
        (f"calm: {len(calm.statuses)} requests, {calm.failed} failed", calm),
        (f"load: {len(load.statuses)} requests, {load.failed} failed (bar: 0)", load),
    ]
    found = [f"{text}; p50 {one.quantile(0.5):.1f} ms, p99 {one.quantile(0.99):.1f} ms" for text, one in rows]
    found.append(f"promotions and rollbacks: {result.changes}, workers killed: {result.kills}")
    points = 100 * abs(result.split_seen - SHARE)
    found.append(
        f"split: {result.split_seen:.2%} of {result.split_requests} requests, {SHARE:.0%} wanted: {points:.2f} points "
        f"apart (bar: {100 * SPLIT_BAR:.0f})"
    )
    found.append(f"p99 under load against calm: {result.p99_ratio:.2f} x (bar: {P99_BAR:g} x)")
    return found + [f"  failed: {error}" for error in sorted(set(load.errors))[:5]]


def is_met(result: Result) -> bool:
    """Whether all three bars hold."""
    near = abs(result.split_seen - SHARE) <= SPLIT_BAR
    return result.load.failed == 0 and near and result.p99_ratio <= P99_BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the load")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        models = {make_model(Path(folder) / str(seed), seed=seed): Path(folder) / str(seed) for seed in (1, 2)}
        world = World(Path(folder) / "home", free_port(), models)
        try:
            world.install("1")
            world.up()
            result = measure(world, seconds, print)
        finally:
            world.close()
    print("\n".join(lines(result)))
    print("met" if is_met(result) else "NOT met")
    return 0 if is_met(result) else 1


if __name__ == "__main__":
    sys.exit(main())
