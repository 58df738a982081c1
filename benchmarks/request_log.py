"""What the request log's guarantees cost: records per second with and without checksum and fsync, in one run.

    python benchmarks/request_log.py

Every way writes the same records, one `write` each, in turns; the ratios are to the bare write.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tokka.request_log.framing import frame
from tokka.request_log.log import Writer

RECORDS, TURNS = 4_000, 5
RECORD = {
    "kind": "prediction", "prediction_id": "0" * 32, "time": 1.7e9, "version": "3", "digest": "d" * 64, "share": 0.05,
    "assigned": False, "replayed": False, "latency_ms": 3.141, "canary": False, "label": "card_arrival",
    "score": 0.987654321, "length": 13, "unknown": 0, "text": "I am still waiting on my card, where is it now?",
}  # fmt: skip
Way = Callable[[Path], None]


def main() -> None:
    ways: dict[str, Way] = {
        "bare write, no checksum": lambda path: write(path, plain),
        "checksum": lambda path: write(path, frame),
        "checksum, group fsync (ours)": ours,
        "checksum, fsync per 64": lambda path: write(path, frame, sync_every=64),
        "checksum, fsync each": lambda path: write(path, frame, sync_every=1),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
        for turn in range(TURNS):
            for name, way in ways.items():
                began = time.perf_counter()
                way(Path(folder) / f"{turn}-{name.replace(' ', '-')}")
                rates[name].append(RECORDS / (time.perf_counter() - began))
    medians = {name: sorted(found)[TURNS // 2] for name, found in rates.items()}
    bare = next(iter(medians.values()))
    print(f"{'way':32}{'records/s':>12}{'ratio':>8}   (median of {TURNS} turns of {RECORDS} records)")
    for name, rate in medians.items():
        print(f"{name:32}{rate:12,.0f}{rate / bare:8.2f}")


def plain(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def write(path: Path, encode: Callable[[dict[str, object]], bytes], sync_every: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in range(1, RECORDS + 1):
        os.write(descriptor, encode(RECORD))
        if sync_every and number % sync_every == 0:
            os.fdatasync(descriptor)
    os.close(descriptor)


def ours(path: Path) -> None:
    writer = Writer(path, "worker")
    for _ in range(RECORDS):
        writer.append([RECORD])
    writer.close()


if __name__ == "__main__":
    main()
