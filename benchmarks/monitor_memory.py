"""Memory and time of a look at drift, by how many predictions are logged: each look is a process of its own.

    python -m benchmarks.monitor_memory 10000 100000 1000000 5000000

The predictions lie in sealed segments of the usual size; 2,000 of them have feedback. Printed are the log's bytes, the
seconds of the look, and the highest resident memory of its process, with and without what the imports take.
"""

import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tokka.monitoring import traffic
from tokka.request_log import parquet, segments
from tokka.request_log.framing import frame

LABELLED, WINDOW, WINDOWS = 2_000, 250, 3


def main() -> None:
    if sys.argv[1] == "look":
        look(Path(sys.argv[2]))
        return
    print(f"{'predictions':>12}{'segments':>10}{'MB on disk':>12}{'seconds':>9}{'peak MB':>9}{'above imports':>15}")
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="tokka-monitor-") as place:
            write(Path(place), count)
            command = [sys.executable, "-m", "benchmarks.monitor_memory", "look", place]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            sealed = [path.stat().st_size for path in Path(place).glob("*.parquet")]
            above = said["peak"] - said["imported"]
            figures = f"{said['seconds']:9.2f}{said['peak']:9.1f}{above:15.1f}"
            print(f"{count:12,}{len(sealed):10}{sum(sealed) / 1e6:12.1f}{figures}", flush=True)


def look(folder: Path) -> None:
    import pandas  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    imported, began = peak(), time.perf_counter()
    seen = traffic.look(folder, "1", frozenset(), WINDOW, WINDOWS)
    assert len(seen.cuts.windows) == WINDOWS
    assert len(seen.learnable) == LABELLED
    print(json.dumps({"seconds": time.perf_counter() - began, "peak": peak(), "imported": imported}))


def peak() -> float:
    # Not getrusage, whose peak a process has from the one that forked it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def write(folder: Path, count: int) -> None:
    record = {
        "kind": "prediction", "version": "1", "digest": "d" * 64, "share": 0.0, "assigned": False, "replayed": False,
        "latency_ms": 3.141, "canary": False, "label": "card_arrival", "score": 0.987654321, "length": 13, "unknown": 0,
    }  # fmt: skip
    lines: list[bytes] = []
    size, serial, every = 0, 0, count // LABELLED
    for number in range(count):
        name, moment = uuid.uuid4().hex, 1.7e9 + number
        text = f"I am still waiting on my card number {number}, where is it now?"
        lines.append(frame({**record, "prediction_id": name, "time": moment, "text": text}))
        if number % every == 0 and number < every * LABELLED:
            lines.append(frame({"kind": "feedback", "prediction_id": name, "time": moment + 60, "label": "card"}))
        size += len(lines[-1])
        if size >= segments.SEGMENT_BYTES or number == count - 1:
            name = f"20231114-worker-{serial:05}"
            segments.open_path(folder, name).write_bytes(b"".join(lines))
            parquet.seal(folder, name)
            lines, size, serial = [], 0, serial + 1


if __name__ == "__main__":
    main()
