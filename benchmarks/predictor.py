"""What a predictor's pod needs: seconds to start, memory, and processor time at 50 requests a second.

    python benchmarks/predictor.py --model MODEL_FOLDER                       # 3 rounds of 20 s at 50 requests/s
    python benchmarks/predictor.py --model MODEL_FOLDER --rate 100 --seconds 10

One worker as the runtime `tokka` starts it (infra/kubernetes/components/serving), asked by open-loop clients:
each request begins at its time, whatever became of the one before. RSS is resident memory; its largest is the kernel's.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from serving import cpu_seconds
from serving_client import Ask, RestTarget
from serving_ours import text_body, worker

CONNECTIONS = 8
TEXTS = [f"where is my card, and why was order {number} refused?" for number in range(64)]


async def steady(target: RestTarget, rate: float, seconds: float) -> list[float]:
    """Ask at a steady rate; the latency in milliseconds of each answer, counted from when it was due."""
    free: asyncio.Queue[Ask] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await target.connect())
    latencies: list[float] = []
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        ask = await free.get()
        await ask(TEXTS[number % len(TEXTS)])
        free.put_nowait(ask)
        latencies.append((time.perf_counter() - due) * 1000)

    async with asyncio.TaskGroup() as running:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            running.create_task(one(number, due))
    return sorted(latencies)


def memory_mb(pid: int, name: str) -> float:
    """`VmRSS` or its largest, `VmHWM`, of a process, in megabytes (10^6 bytes)."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


def main() -> None:
    """Print a table with one row a round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| start s | ready s, by the server | RSS MB | largest RSS MB | CPU, cores | p50 ms | p99 ms | answers |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [round_of(options) for _ in range(options.rounds)]
    print(row([statistics.median(column) for column in zip(*rows, strict=True)]))


def round_of(options: argparse.Namespace) -> list[float]:
    """Start a worker, ask it, and print its row."""
    with tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        began = time.perf_counter()
        pid, facts = worker(stack, "int8", options.model.absolute(), Path(logs))
        start, idle = time.perf_counter() - began, memory_mb(pid, "VmRSS")
        before, moment = cpu_seconds([pid]), time.perf_counter()
        target = RestTarget(facts["port"], "/predict", text_body)
        latencies = asyncio.run(steady(target, options.rate, options.seconds))
        cores = (cpu_seconds([pid]) - before) / (time.perf_counter() - moment)
        found = [
            start, float(facts["seconds"]), idle, memory_mb(pid, "VmHWM"), cores, statistics.median(latencies),
            latencies[int(0.99 * len(latencies))], float(len(latencies)),
        ]  # fmt: skip
    print(row(found))
    return found


def row(values: list[float]) -> str:
    """A row of the table."""
    return "| " + " | ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values) + " |"


if __name__ == "__main__":
    main()
