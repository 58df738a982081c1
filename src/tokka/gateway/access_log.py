"""From HAProxy's UDP log to the request log: one record per request, with its status, latency and split.

receiver = Receiver(Writer(folder, "gateway"))
Gateway(..., log_port=receiver.port)
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from tokka.gateway.gateway import HOST, WEIGHT_TOTAL
from tokka.request_log.framing import LogRecord
from tokka.request_log.log import Writer

_RECEIVE_BYTES = 4 << 20
_DATAGRAM_BYTES = 8192
_GATHER_SECONDS, _MOST_AT_ONCE = 0.005, 1000
# `close` sends it to end the thread.
_END = b""


def listen() -> socket.socket:
    """A free UDP port on loopback; the socket's buffer holds what arrives before it is read."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    found.bind((HOST, 0))
    return found


class Receiver:
    """A thread that takes datagrams until `close`.

    Args:
        writer: where the records go.
        observe: called with each record once it is written; must be quick and raise nothing.
        listening: what `listen` returned.
    """

    def __init__(
        self, writer: Writer, observe: Callable[[LogRecord], None] = lambda record: None,
        listening: socket.socket | None = None,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._observe = observe
        self._socket = listening or listen()
        self.port: int = self._socket.getsockname()[1]
        self.received = 0
        self.lost = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gateway-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take what has arrived, and end."""
        self._closing = True
        self._socket.sendto(_END, self._socket.getsockname())
        self._thread.join(timeout=2)
        self._socket.close()
        self._writer.close()

    def _run(self) -> None:
        datagrams = [b"-"]
        while not (self._closing and _END in datagrams):
            datagrams = [self._socket.recv(_DATAGRAM_BYTES)]
            # One turn for all that comes in the next milliseconds: one per request would cost the workers time.
            time.sleep(_GATHER_SECONDS)
            datagrams += self._arrived()
            self._write([record for datagram in datagrams if (record := parse(datagram)) is not None])

    def _arrived(self) -> Iterator[bytes]:
        """The datagrams that have arrived, without waiting."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_AT_ONCE):
                yield self._socket.recv(_DATAGRAM_BYTES, socket.MSG_DONTWAIT)

    def _write(self, records: list[LogRecord]) -> None:
        try:
            self._writer.append(records)
            self.received += len(records)
            for record in records:
                self._observe(record)
        except Exception:
            # Not even a full disk may end this thread.
            self.lost += len(records)


# The gRPC statuses of the gateway and the workers as HTTP statuses; any other is a server's failure.
_HTTP_STATUS = {"0": 200, "3": 400, "4": 504, "5": 404, "7": 403, "8": 429, "12": 404, "14": 503, "16": 401}


def http_status(status: int, grpc: str) -> int:
    """The HTTP status of a request, also when gRPC's is in `grpc` (empty or "-" when not)."""
    return status if grpc in ("", "-") else _HTTP_STATUS.get(grpc, 500)


def _latency_ms(line: Mapping[str, object]) -> float:
    """From the request's arrival to the answer's end, without the time in which a slow client sent it.

    HAProxy's own time holds the sending; it is the upper bound when the clock was set meanwhile.
    """
    most, ended, began = (float(str(line[name])) for name in ("latency_ms", "ended_us", "time_us"))
    taken = (ended - began) / 1000.0
    return round(taken, 3) if 0.0 <= taken <= most + 1.0 else most


def parse(datagram: bytes) -> LogRecord | None:
    """One log line as a record of kind "request"; None when it is none, or of a health check or a job.

    `canary`: the split sent the request to the challenger; `stand_in`: the champion answered instead, since no worker
    of the challenger could; `key`: a hash of the user, whose requests all go to one side of the split.
    """
    try:
        line = json.loads(datagram)
        assigned = line["assigned"] == "1"
        record: LogRecord = {
            "kind": "request",
            "prediction_id": str(line["id"]),
            "time": float(line["time_us"]) / 1e6,
            "route": str(line["route"]),
            "protocol": str(line["protocol"]),
            "client": "" if line["client"] == "-" else str(line["client"]),
            "status": http_status(int(line["status"]), str(line["grpc"])),
            "latency_ms": _latency_ms(line),
            "share": int(line["share"]) / WEIGHT_TOTAL,
            "canary": assigned,
            "stand_in": assigned and line["canary"] == "0",
            "version": "" if line["version"] == "-" else str(line["version"]),
            "replayed": line["replayed"] == "1",
            "retries": int(str(line["retries"]).lstrip("+")),
        }
        if line["key"] not in ("", "-"):
            record["key"] = str(line["key"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if record["route"] in ("health", "other", "jobs") else record
