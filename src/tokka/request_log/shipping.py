"""A pod's request log on its way to the archive: a process beside the model server, which never waits for it.

    python -P -m tokka.request_log.shipping '{"folder": "/tmp/tokka/requests", "address": "s3://…/requests/desk/3"}'

A segment is copied whole each time that it has grown, always under its own name, and deleted here once it has ended
and all of it is there: killed anywhere, it does the same again, and loses nothing and doubles nothing. What cannot be
copied waits; beyond `most` bytes the oldest goes, and is counted.
"""

import json
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tokka import files, objects
from tokka.errors import TokkaError
from tokka.request_log import segments

if TYPE_CHECKING:
    from prometheus_client import Metric

MODULE = "tokka.request_log.shipping"
EVERY_S = 20.0
# What is left is copied within so many seconds after the server has ended, or is not: on a busy node they are few.
LAST_S = 25
MOST_BYTES = 256 << 20
STATUS = "shipping.json"


@dataclass
class Shipped:
    """What became of a log: copies made, tries that failed, records given up for want of room, bytes that wait."""

    copies: int = 0
    failures: int = 0
    dropped: int = 0
    waiting: int = 0
    problem: str = ""


class Shipping:
    """The log in a folder, and the archive's address of it."""

    def __init__(self, folder: Path, address: str, most: int = MOST_BYTES) -> None:
        self._folder, self._address, self._most = folder, address, most
        # Bytes of each segment that the archive has.
        self._there: dict[str, int] = {}
        self.shipped = read(folder)

    def turn(self) -> None:
        """Copy what has grown, delete what has ended, and keep within the room; what failed is tried at the next."""
        names = segments.names(self._folder)
        self._there = {name: size for name, size in self._there.items() if name in names}
        problem = self.shipped.problem
        try:
            for name in names:
                self._copy(name)
            self.shipped.problem = ""
        except TokkaError as error:
            self.shipped.failures += 1
            self.shipped.problem = error.message
        if self.shipped.problem not in ("", problem):
            _say(f"the request log waits: {self.shipped.problem}")
        self._keep_within_room()
        self._report()

    def _copy(self, name: str) -> None:
        path = segments.open_path(self._folder, name)
        if path.stat().st_size != self._there.get(name):
            content = path.read_bytes()
            objects.put(content, objects.join(self._address, path.name))
            self._there[name] = len(content)
            self.shipped.copies += 1
        self._delete_ended(name)

    def _delete_ended(self, name: str) -> None:
        path = segments.open_path(self._folder, name)
        # Nobody writes it while the lock is held, and a later segment has another name.
        if (descriptor := segments.claim_all(path)) is not None:
            if os.fstat(descriptor).st_size == self._there.get(name):
                path.unlink()
            os.close(descriptor)

    def _keep_within_room(self) -> None:
        """Give up the oldest segments that have ended, until the rest has room."""
        for name in segments.names(self._folder):
            if self._waiting() <= self._most:
                break
            path = segments.open_path(self._folder, name)
            if (descriptor := segments.claim_all(path)) is not None:
                lost = path.read_bytes()[self._there.get(name, 0) :]
                path.unlink()
                os.close(descriptor)
                self.shipped.dropped += sum(map(bool, lost.split(b"\n")))

    def _waiting(self) -> int:
        sizes = {name: segments.open_path(self._folder, name).stat().st_size for name in segments.names(self._folder)}
        return sum(size - self._there.get(name, 0) for name, size in sizes.items())

    def _report(self) -> None:
        self.shipped.waiting = self._waiting()
        try:
            files.write_json(self._folder / STATUS, asdict(self.shipped))
        except OSError:
            # A full disk: the next report says it.
            return


class ShippingMetrics:
    """What became of the log of this pod, for Prometheus, read anew at each scrape; `unlogged` of the server itself."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.unlogged = folder, 0

    def collect(self) -> Iterator["Metric"]:
        """As prometheus_client asks for it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found = read(self._folder)
        counters = {
            "tokka_request_log_copies": ("Segments copied to the archive.", found.copies),
            "tokka_request_log_failures": ("Tries to copy that failed.", found.failures),
            "tokka_request_log_dropped": ("Records given up, since what waited had no more room.", found.dropped),
            "tokka_unlogged": ("Answers that the request log could not take.", self.unlogged),
        }
        for name, (words, value) in counters.items():
            yield CounterMetricFamily(name, words, value=value)
        waits = "Bytes of the request log that the archive does not have yet."
        yield GaugeMetricFamily("tokka_request_log_waiting_bytes", waits, value=found.waiting)


def read(folder: Path) -> Shipped:
    """What was reported last; zeros before that."""
    try:
        return Shipped(**files.read_json(folder / STATUS))
    except (TokkaError, OSError, ValueError, TypeError):
        return Shipped()


def command(folder: Path, address: str) -> list[str]:
    """The command line of the process, whose input its parent holds open."""
    return [sys.executable, "-P", "-m", MODULE, json.dumps({"folder": str(folder), "address": address})]


def _say(message: str) -> None:
    """As a line of the server's log, beside which it stands."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": moment, "level": "WARNING", "logger": "tokka.request_log", "message": message, "pid": os.getpid()}
    print(json.dumps({**line, "process": "shipping"}), file=sys.stderr, flush=True)


def main(arguments: Iterable[str]) -> int:
    """Ship until standard input ends, and once more after it.

    Unlike a signal, that cannot come too early for a start; and it comes when the parent was killed.
    """
    (argument,) = arguments
    told = json.loads(argument)
    os.nice(10)
    shipping = Shipping(Path(told["folder"]), told["address"])
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        shipping.turn()
    # Nobody waits for it any longer: the signal ends it.
    signal.alarm(LAST_S)
    shipping.turn()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
