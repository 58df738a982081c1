"""Seconds and peak memory of validate_data and preprocess, by how many rows there are.

    python -m benchmarks.scale 10000 100000 1000000

Each step runs in a process of its own, preprocess with DVC and all; its peak is that of its largest process, children
included. The rows, a CSV file, are the same every time: messages of 4 to 16 words, of which 2 % stand there twice, 3 %
are another one with a letter more, and 1 % are broken. Printed are seconds of the clock and of the processor, the peak,
and the exponent by which the processor's seconds grow from the size before.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tokka.params import Params
from tokka.settings import Settings

STEPS = ("validate_data", "preprocess")
BLOCK, VOCABULARY, CLASSES = 10_000, 30_000, 77
TWICE, NEARLY, BROKEN = 0.02, 0.03, 0.01
DAY = np.datetime64("2026-01-01T00:00:00")


def main() -> None:
    if sys.argv[1] in STEPS:
        work(sys.argv[1], Path(sys.argv[2]))
        return
    print(
        f"{'rows':>10}  {'step':14}{'seconds':>9}{'processor':>11}{'peak MB':>9}{'exponent':>10}   rows left",
        flush=True,
    )
    before: dict[str, tuple[int, float]] = {}
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="tokka-scale-") as place:
            write(Path(place) / "rows.csv", count)
            for step in STEPS:
                command = [sys.executable, "-m", "benchmarks.scale", step, place]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found = json.loads(said.splitlines()[-1])
                now = (count, found["processor"])
                exponent = f"{growth(before[step], now):10.2f}" if step in before else " " * 10
                before[step] = now
                figures = f"{found['seconds']:9.1f}{found['processor']:11.1f}{found['peak']:9.0f}{exponent}"
                print(f"{count:10,}  {step:14}{figures}   {found['rows']}", flush=True)


def growth(before: tuple[int, float], now: tuple[int, float]) -> float:
    return math.log(now[1] / before[1]) / math.log(now[0] / before[0])


def work(step: str, folder: Path) -> None:
    from tokka.steps import preprocess, validate_data

    source = {"source": str(folder / "rows.csv"), "max_bytes": 10**11, "max_rows": 10**9}
    params = Params.model_validate({"data": source})
    settings = Settings.from_environment({"TOKKA_ROOT": str(Path.cwd()), "TOKKA_HOME": str(folder / "home")})
    began = time.perf_counter()
    if step == "validate_data":
        found = validate_data.run(params, settings, folder / "rows")
        left = f"{found['rows']:,}, {found['quarantined']:,} quarantined"
    else:
        summary = preprocess.run(params, settings, folder / "rows", folder / "prepared")["summary"]
        left = f"{summary['rows']}, {summary['exact_duplicates']:,} twice, {summary['near_duplicates']:,} nearly"
    times = os.times()
    processor = times.user + times.system + times.children_user + times.children_system
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak(), "rows": left}))


def peak() -> float:
    # Not getrusage for itself, whose peak a process has from the one that forked it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return max(int(line.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def write(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label,time,channel\n")
        for start in range(0, count, BLOCK):
            file.writelines(lines(start, min(BLOCK, count - start)))


def lines(start: int, count: int) -> Iterator[str]:
    """One block of rows; what stands twice or nearly so is another row of its block."""
    generator = np.random.default_rng([7, start])
    # Words are about as frequent as in a language: the probability falls with the rank.
    words = (VOCABULARY ** generator.random((count, 16))).astype(int)
    texts = [
        " ".join(map(word, row[: 4 + size])) for row, size in zip(words, generator.integers(0, 13, count), strict=True)
    ]
    kind, other = generator.random(count), generator.integers(0, count, count)
    label, channel = generator.integers(0, CLASSES, count), generator.integers(0, 3, count)
    times = np.datetime_as_string(DAY + (start + np.arange(count)).astype("timedelta64[s]"))
    for index, text in enumerate(texts):
        if kind[index] < BROKEN:
            yield f"{text}\n"
            continue
        if kind[index] < BROKEN + TWICE + NEARLY:
            text = texts[other[index]] + ("" if kind[index] < BROKEN + TWICE else "s")
        yield f"{text},intent_{label[index]},{times[index]},{('mail', 'chat', 'phone')[channel[index]]}\n"


def word(number: int) -> str:
    """A pronounceable word for a number: two numbers, two words."""
    found = ""
    while number or not found:
        number, place = divmod(number, 100)
        found += "bcdfghjklmnprstvwxyz"[place // 5] + "aeiou"[place % 5]
    return found


if __name__ == "__main__":
    main()
