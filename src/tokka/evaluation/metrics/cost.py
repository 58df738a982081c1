"""What a model costs to run: latency, throughput, memory, start, processor time, size and parameters.

Memory, start and processor time are measured in a process of its own: this one has already loaded other things.
Latencies that are compared are measured in turns, text by text, so that a busy machine is busy for both alike.
"""

import functools
import json
import os
import platform
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from tokka.errors import TokkaError
from tokka.evaluation.gate.schema import Latency
from tokka.evaluation.metrics.energy import Energy, processor_name
from tokka.processes import process

LATENCY_REQUESTS = 200
WARM_UP_REQUESTS = 10
PROBE_SECONDS = 1800.0
MEGABYTE = 1e6

Ask = Callable[[str, str | None], object]


@dataclass(frozen=True)
class Footprint:
    """One model alone in a process with one thread.

    cold_start_s: from the start of the process to its first answer; memory_mb: peak resident memory once fitted;
    cpu_ms: processor time per text at batch 1; throughput: texts per second in batches; energy: an estimate;
    fit_cpu_seconds: processor time for what had to be fitted first, which cold_start_s leaves out; fitted_mb and
    fitted_parameters: what came of it.
    """

    cold_start_s: float
    memory_mb: float
    cpu_ms: float
    throughput: float
    latency: Latency
    energy: Energy = field(default_factory=Energy)
    fit_cpu_seconds: float = 0.0
    fitted_mb: float = 0.0
    fitted_parameters: int = 0


def latency_in_turns(
    models: Mapping[str, Ask],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    requests: int = LATENCY_REQUESTS,
) -> dict[str, Latency]:
    """Ask every model the same texts in turns and return each one's quantiles; the first answers are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM_UP_REQUESTS + requests):
        place = number % len(texts)
        # The second of a round finds the processor at its full clock: the order alternates.
        for name in list(models)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            models[name](texts[place], pairs[place] if pairs is not None else None)
            taken[name].append((time.perf_counter() - began) * 1e3)
    return {name: summarise(values[WARM_UP_REQUESTS:]) for name, values in taken.items()}


def summarise(milliseconds: Sequence[float]) -> Latency:
    """Median and 99th percentile."""
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return Latency(p50=float(p50), p99=float(p99))


def probe(job: Mapping[str, object], scores: Path | None = None) -> Footprint:
    """Run a model in a fresh process over `job["texts"]`; its scores go to `scores` (.npy) when asked for.

    `job`: as `tokka.evaluation.models.probe` takes it. TokkaError when the process failed; the last line that it wrote
    is repeated.
    """
    command = [sys.executable, "-m", "tokka.evaluation.models.probe", *([str(scores)] if scores else [])]
    try:
        done = subprocess.run(
            command, input=json.dumps(dict(job)), capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
            preexec_fn=functools.partial(process.die_with_parent, os.getpid()),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TokkaError(
            f"measuring {job['folder']} took over {PROBE_SECONDS:.0f} s", "use a smaller test set"
        ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TokkaError(f"{job['folder']} cannot be measured: {last[:300]}", "check that the model folder is whole")
    found = json.loads(done.stdout.splitlines()[-1])
    parts = {"latency": Latency(**found["latency"]), "energy": Energy(**found["energy"])}
    return Footprint(**{**found, **parts})


def parameter_count(weights: Sequence[Path]) -> int:
    """Numbers in safetensors files, from their headers alone; TokkaError when a file is no safetensors file."""
    return sum(_count(path) for path in weights)


def size_mb(paths: Sequence[Path]) -> float:
    """Size on disk in MB of 10^6 bytes."""
    return sum(path.stat().st_size for path in paths) / MEGABYTE


def _count(path: Path) -> int:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise TokkaError(f"{path} is no safetensors file: {error}", "train or fetch the model again") from None


def environment_note() -> dict[str, object]:
    """On what the figures were measured; a latency without its processor says little."""
    return {"processor": processor_name() or platform.processor() or platform.machine(), "cores": os.cpu_count() or 1}
