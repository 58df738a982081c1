"""Tokka's server beside its peers, on the same model and loopback, in turns within one run.

    python benchmarks/serving.py --model MODEL_FOLDER                  # at 1, 16 and 64 clients
    python benchmarks/serving.py --model MODEL_FOLDER --rounds 3 --seconds 4 --forms int8

Every server is up from the beginning; idle ones take no processor time. In each round every server is asked by
every number of clients for some seconds; figures are medians over the rounds, ratios the medians of the rounds' own
ratios. CPU-ms are those of the server's whole process tree. The in-process limit is the tokenizer and the network
alone, at the batch that stands in the table. Peers: `mlflow models serve`, KServe's `ModelServer`, LitServe with
batching (left out when it is not installed: `pip install litserve`).
"""

import argparse
import contextlib
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from serving_client import Load, RestTarget, press, run  # noqa: E402  # after the thread counts
from serving_ours import PATIENCE, Server, free_port, ours, started  # noqa: E402

CLIENTS = (1, 16, 64)
UNTUNED = ", threads as they come"


@dataclass(frozen=True)
class Sample:
    """One server under so many clients in one round."""

    per_second: float
    p50: float
    p99: float
    cpu_ms: float
    failures: int


def peer(stack: contextlib.ExitStack, name: str, title: str, form: str, model: Path, logs: Path) -> Server:
    """Start one of the peers."""
    port = free_port()
    script = str(Path(__file__).with_name("serving_peers.py"))
    command = [sys.executable, script, name, "--model", str(model), "--form", form, "--port", str(port)]
    pid = stack.enter_context(started(command, logs / f"{name}-{form}.log"))
    mlflow = ("/invocations", lambda text: {"dataframe_records": [{"text": text}]})
    path, encode = {
        "mlflow": mlflow,
        "mlflow-untuned": mlflow,
        "kserve": ("/v1/models/plain:predict", lambda text: {"instances": [text]}),
        "litserve": ("/predict", lambda text: {"text": text}),
    }[name]
    return Server(title, form, (pid,), RestTarget(port, path, encode), logs / f"{name}-{form}.log")


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor seconds of processes and their children."""
    import psutil

    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                times = process.cpu_times()
                total += times.user + times.system
    return total


def measure(server: Server, texts: Sequence[str], clients: int, seconds: float) -> Sample:
    """Ask one server for some seconds."""
    began = cpu_seconds(server.pids)
    load: Load = run(press(server.target, texts, clients=clients, seconds=seconds))
    spent = cpu_seconds(server.pids) - began
    answers = max(1, len(load.latencies))
    return Sample(
        len(load.latencies) / load.seconds, load.percentile(50), load.percentile(99), 1000 * spent / answers,
        load.failures,
    )  # fmt: skip


def wait_for(server: Server, text: str) -> None:
    """Until the server answers, or say what it wrote last."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            if run(press(server.target, [text], clients=1, seconds=0.05)).latencies:
                return
        time.sleep(0.3)
    said = server.log.read_text(errors="replace")[-800:] if server.log.is_file() else ""
    raise SystemExit(f"{server.name} does not answer: {said}")


def in_process(model: Path, form: str, texts: Sequence[str], batch: int) -> float:
    """CPU-ms per text of tokenizer and network alone, the median of some passes."""
    from serving_peers import open_model

    predictor, passes = open_model(model, form), []
    for _ in range(7):
        began = time.process_time()
        for start in range(0, 256, batch):
            predictor.predict([texts[(start + place) % len(texts)] for place in range(batch)], batch=batch)
        passes.append(1000 * (time.process_time() - began) / 256)
    return statistics.median(passes)


def read_texts(path: Path, column: str) -> list[str]:
    """The texts that are asked."""
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return [row[column] for row in csv.DictReader(file)][:2000]


Samples = dict[tuple[str, str, int], list[Sample]]


def compare(
    servers: Sequence[Server], texts: Sequence[str], clients: Sequence[int], rounds: int, seconds: float
) -> Samples:
    """Every server at every number of clients, in turns; a first short pass warms up and is not counted."""
    found: Samples = {}
    for server in servers:
        measure(server, texts, 16, 1.0)
    for number in range(rounds):
        for count in clients:
            for server in list(servers)[:: -1 if number % 2 else 1]:
                sample = measure(server, texts, count, seconds)
                found.setdefault((server.name, server.form, count), []).append(sample)
    return found


def median(samples: Sequence[Sample], pick: Callable[[Sample], float]) -> float:
    """Of one figure over the rounds."""
    return statistics.median(pick(sample) for sample in samples)


def show(found: Samples, limits: dict[tuple[str, int], float]) -> None:
    """The table."""
    print("| server | form | clients | requests/s | p50 ms | p99 ms | CPU-ms/request | of the limit | failed |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, form, clients), samples in sorted(found.items(), key=lambda item: (item[0][2], item[0][1], item[0][0])):
        cpu, limit = median(samples, lambda it: it.cpu_ms), limits[form, min(clients, 16)]
        print(
            f"| {name} | {form} | {clients} | {median(samples, lambda it: it.per_second):.0f} "
            f"| {median(samples, lambda it: it.p50):.1f} | {median(samples, lambda it: it.p99):.1f} "
            f"| {cpu:.2f} | {cpu / limit:.2f} x | {sum(sample.failures for sample in samples)} |"
        )
    for (form, batch), limit in sorted(limits.items()):
        print(f"\nIn process, {form}, batch {batch}: {limit:.2f} CPU-ms per text", end="")
    print()


def ratio(found: Samples, ours: tuple[str, str], theirs: tuple[str, str], clients: int) -> str:
    """Requests per second and p99 of one server against another, round by round."""
    mine, other = found.get((*ours, clients)), found.get((*theirs, clients))
    if not mine or not other:
        return "not measured"
    rates = statistics.median(a.per_second / b.per_second for a, b in zip(mine, other, strict=True))
    tails = statistics.median(a.p99 / b.p99 for a, b in zip(mine, other, strict=True))
    return f"{rates:.2f} x the requests per second, {tails:.2f} x the p99"


def bars(found: Samples, forms: Sequence[str], limits: dict[tuple[str, int], float]) -> None:
    """The comparisons that have a bar, at 16 clients."""
    print("\nAt 16 clients:")
    for form in forms:
        through = [f"tokka, {protocol} through the gateway, 2 workers" for protocol in ("REST", "gRPC")]
        for name in ("tokka, REST", "tokka, REST v2", "tokka, gRPC", *through):
            against = ratio(found, (name, form), ("LitServe, batch 16", form), 16)
            print(f"- {name}, {form}, against LitServe, {form}: {against}")
            for threads, other in (("", "torch"), (UNTUNED, "torch"), ("", form)):
                peer_name = f"mlflow models serve{threads}"
                against = ratio(found, (name, form), (peer_name, other), 16)
                print(f"- {name}, {form}, against {peer_name}, {other}: {against}")
        for protocol in ("REST", "gRPC"):
            name = f"tokka, {protocol}"
            cost = ratio(found, (f"{name} through the gateway, 1 worker", form), (name, form), 16)
            print(f"- the gateway in front of one worker, {protocol}, {form}: {cost}")
        cpu = median(found["tokka, REST", form, 16], lambda it: it.cpu_ms)
        print(f"- CPU of the worker against the in-process limit, {form}: {cpu / limits[form, 16]:.2f} x")


def main() -> None:
    """Start everything, measure, print."""
    shared = Path(os.environ.get("TOKKA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder, as `tokka run` leaves in its home")
    parser.add_argument("--forms", nargs="+", default=["int8", "fp32"])
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--texts", type=Path, default=shared / "banking77" / "test.csv", help="CSV with a column text")
    given = parser.parse_args()
    texts = read_texts(given.texts, "text")
    limits = {
        (form, batch): in_process(given.model, form, texts, batch)
        for form in ("torch", *given.forms)
        for batch in {min(count, 16) for count in given.clients}
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        logs, servers = Path(folder), []
        for form in given.forms:
            servers += ours(stack, form, given.model, logs)
            servers.append(peer(stack, "kserve", "KServe ModelServer", form, given.model, logs))
            if importlib.util.find_spec("litserve"):
                servers.append(peer(stack, "litserve", "LitServe, batch 16", form, given.model, logs))
        for form in ("torch", *given.forms):
            servers.append(peer(stack, "mlflow", "mlflow models serve", form, given.model, logs))
        servers.append(peer(stack, "mlflow-untuned", f"mlflow models serve{UNTUNED}", "torch", given.model, logs))
        for server in servers:
            wait_for(server, texts[0])
        found = compare(servers, texts, given.clients, given.rounds, given.seconds)
    show(found, limits)
    bars(found, given.forms, limits)


if __name__ == "__main__":
    main()
