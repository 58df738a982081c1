"""One model in a process of its own, measured: reads a job as JSON, writes its figures as one JSON line.

    python -m tokka.evaluation.models.probe [SCORES.npy] < job.json

A job is {"kind": "specialist" | "general" | "tfidf", "folder", "texts", "pairs": [...] | null, "country": where its
energy is estimated for, or ""}. A specialist's may name its "form". The others have also "max_tokens", "labels" and,
for a regression and for every one on TF-IDF, "known": {"texts", "pairs", "targets"}.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tokka.errors import TokkaError
from tokka.files import Tree

if TYPE_CHECKING:
    from tokka.evaluation.metrics.metrics import Floats

Predict = Callable[[Sequence[str], Sequence[str] | None], "Floats"]


@dataclass(frozen=True)
class Opened:
    """A model that is ready to answer, and what it took to fit it here (nothing for what comes fitted)."""

    predict: Predict
    fit_seconds: float = 0.0
    fit_cpu_seconds: float = 0.0
    fitted_mb: float = 0.0
    fitted_parameters: int = 0


def main() -> int:
    """Measure the job on standard input. Exit 1 with one line on standard error when that is impossible."""
    try:
        figures = measure(json.load(sys.stdin), Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except TokkaError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


def measure(job: Tree, scores: Path | None) -> dict[str, object]:
    """Every figure of `cost.Footprint`, from this process; the answers go to `scores`."""
    import numpy as np

    texts, pairs = job["texts"], job["pairs"]
    opened = open_model(job)
    opened.predict(texts[:1], pairs[:1] if pairs else None)
    cold_start = time.time() - psutil.Process().create_time() - opened.fit_seconds
    began = time.perf_counter()
    answered = opened.predict(texts, pairs)
    throughput = len(texts) / max(time.perf_counter() - began, 1e-9)
    if scores is not None:
        np.save(scores, answered)
    figures = {"cold_start_s": cold_start, "throughput": throughput}
    figures |= {name: getattr(opened, name) for name in ("fit_cpu_seconds", "fitted_mb", "fitted_parameters")}
    return {**figures, **_one_by_one(opened.predict, texts, pairs, job.get("country", ""))}


def _one_by_one(predict: Predict, texts: Sequence[str], pairs: Sequence[str] | None, country: str) -> dict[str, object]:
    """Latency, processor time, memory and energy of texts that come alone."""
    from tokka.evaluation.metrics.cost import LATENCY_REQUESTS, WARM_UP_REQUESTS, latency_in_turns
    from tokka.evaluation.metrics.energy import estimate

    def ask(text: str, pair: str | None) -> "Floats":
        return predict([text], None if pair is None else [pair])

    requests = min(LATENCY_REQUESTS, max(20, len(texts)))
    began = time.process_time()
    latency = latency_in_turns({"it": ask}, texts, pairs, requests)["it"]
    # The first answers cost processor time as well, though their latency is not counted.
    cpu_ms = (time.process_time() - began) * 1e3 / (WARM_UP_REQUESTS + requests)
    memory_mb = peak_memory_mb()
    # Last, since its library takes memory of its own.
    places = [(text, pairs[number] if pairs else None) for number, text in enumerate(texts)]
    energy = estimate(lambda number: ask(*places[number % len(places)]), country)
    figures = {"cpu_ms": cpu_ms, "memory_mb": memory_mb, "latency": latency.model_dump()}
    return {**figures, "energy": asdict(energy)}


def open_model(job: Tree) -> Opened:
    """The job's model, ready to answer."""
    folder = Path(job["folder"])
    if job["kind"] == "specialist":
        from tokka.model.predictor import load_predictor

        predictor = load_predictor(folder, job.get("form"))
        return Opened(lambda texts, pairs: predictor.predict(texts, pairs).scores)
    if job["kind"] == "tfidf":
        return _fit_tfidf(job)
    from tokka.evaluation.models.zero_shot import GeneralModel

    model = GeneralModel(folder, job["max_tokens"], job["labels"])
    if known := job.get("known"):
        model.learn_neighbours(known["texts"], known["pairs"], known["targets"])
    return Opened(model.predict)


def _fit_tfidf(job: Tree) -> Opened:
    from tokka.evaluation.models.tfidf import TfidfModel

    model = TfidfModel(job["labels"])
    known, began, cpu_began = job["known"], time.perf_counter(), time.process_time()
    model.fit(known["texts"], known["pairs"], known["targets"])
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    opened = Opened(model.predict, seconds, cpu_seconds, model.megabytes, model.parameters)
    forget_peak_memory()
    return opened


def forget_peak_memory() -> None:
    """Let `peak_memory_mb` begin anew with what is resident now, where the system can do that."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """The most resident memory that this process had since its peak was forgotten, in MB of 10^6 bytes."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    return (peak or psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    sys.exit(main())
