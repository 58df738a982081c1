"""Twice as many requests as a worker can answer: what is refused, and how long the admitted ones take.

    python benchmarks/overload.py --model MODEL_FOLDER

One worker behind the gateway. First its capacity: closed-loop clients, as many as one worker has at a time. Then
requests that start by the clock, at half of that and at twice that, each on a connection of its own, timed from when
they should have started. Refused requests must come back as 503 with Retry-After.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from serving import in_process, read_texts
from serving_client import RestTarget, press, run
from serving_ours import behind_gateway, text_body, worker

CLIENTS = 32


@dataclass
class Open:
    """What requests by the clock saw: statuses, and milliseconds of the admitted and of the refused ones."""

    statuses: Counter[str] = field(default_factory=Counter)
    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def row(self, name: str, rate: float) -> str:
        """One row of the table."""
        every = sum(self.statuses.values())
        said = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        times = [quantile(self.admitted, 50), quantile(self.admitted, 99), quantile(self.refused, 99)]
        figures = " | ".join(f"{time:.0f}" for time in times)
        return f"| {name} | {rate:.0f} | {said} | {len(self.refused) / every:.0%} | {figures} |"


def quantile(values: list[float], percent: int) -> float:
    """In milliseconds; not a number without values."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("nan")


async def by_the_clock(port: int, texts: list[str], rate: float, seconds: float) -> Open:
    """Start so many requests a second, whatever becomes of the earlier ones."""
    found, began = Open(), time.perf_counter() + 0.1
    target = RestTarget(port, "/predict", text_body, keep=False)

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(due - time.perf_counter())
        try:
            ask = await target.connect()
            await ask(texts[number % len(texts)])
            status, into = "200", found.admitted
        except ConnectionError as error:
            status, into = f"503 ({str(error)[:60]})", found.refused
        found.statuses[status] += 1
        into.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    return found


def main() -> None:
    """Measure and print."""
    shared = Path(os.environ.get("TOKKA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder, as `tokka run` leaves in its home")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each stretch")
    parser.add_argument("--texts", type=Path, default=shared / "banking77" / "test.csv", help="CSV with a column text")
    given = parser.parse_args()
    texts = read_texts(given.texts, "text")
    print(f"in process, int8, batch 16: {in_process(given.model, 'int8', texts, 16):.2f} CPU-ms per text")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        logs = Path(folder)
        first = worker(stack, "int8", given.model, logs)
        port = behind_gateway(stack, "int8", [first], logs)[0].target.port
        closed = RestTarget(port, "/predict", text_body)
        load = run(press(closed, texts, clients=CLIENTS, seconds=given.seconds))
        capacity = len(load.latencies) / load.seconds
        stretches = {share: run(by_the_clock(port, texts, share * capacity, given.seconds)) for share in (0.5, 2.0)}
    print(f"capacity: {capacity:.0f} requests/s with {CLIENTS} clients; p50 {load.percentile(50):.0f} ms, "
          f"p99 {load.percentile(99):.0f} ms, {load.failures} failed\n")  # fmt: skip
    print("| offered | requests/s | answers | refused | p50 ms admitted | p99 ms admitted | p99 ms refused |")
    print("|---|---|---|---|---|---|---|")
    for share, found in stretches.items():
        print(found.row(f"{share:g} x capacity", share * capacity))
    saturated = load.percentile(99)
    times = quantile(stretches[2.0].admitted, 99) / saturated
    print(f"\nadmitted at twice the capacity: p99 {times:.2f} x that at capacity")


if __name__ == "__main__":
    main()
