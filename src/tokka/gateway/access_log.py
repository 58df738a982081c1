"""From HAProxy's UDP log to the request log: one record per request, with its status, latency and split.

receiver = Receiver(Writer(folder, "gateway"))
Gateway(..., log_port=receiver.port)
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tokka.gateway.gateway import BUCKETS, HOST
from tokka.request_log.log import Writer

_RECEIVE_BYTES = 4 << 20
_DATAGRAM_BYTES = 8192
_GATHER_SECONDS, _MOST_AT_ONCE = 0.005, 1000
# Our own, after which nothing more is waited for.
_END = b""


def listen() -> socket.socket:
    """A free UDP port on loopback; whoever holds the socket loses nothing while nobody reads."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    found.bind((HOST, 0))
    return found


class Receiver:
    """A thread that takes datagrams until `close`; a thread, since the socket's buffer holds but a few hundred.

    Args:
        writer: where the records go.
        observe: is shown each record once it is written; it must be quick and raise nothing.
        listening: what `listen` gave; what came before is in its buffer.
    """

    def __init__(
        self, writer: Writer, observe: Callable[[dict[str, Any]], None] = lambda record: None,
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
            # One turn for all that comes in the next milliseconds: under load one per request would be taken from those
            # who answer.
            time.sleep(_GATHER_SECONDS)
            datagrams += self._arrived()
            self._write([record for datagram in datagrams if (record := parse(datagram)) is not None])

    def _arrived(self) -> Iterator[bytes]:
        """What has come, without waiting."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_AT_ONCE):
                yield self._socket.recv(_DATAGRAM_BYTES, socket.MSG_DONTWAIT)

    def _write(self, records: list[dict[str, Any]]) -> None:
        try:
            self._writer.append(records)
            self.received += len(records)
            for record in records:
                self._observe(record)
        except Exception:
            # Not even a full disk may stop the gateway's log for good.
            self.lost += len(records)


# The gRPC statuses that the gateway and the workers give, in HTTP's words; any other is a server's failure.
_HTTP_STATUS = {"0": 200, "3": 400, "4": 504, "5": 404, "7": 403, "8": 429, "12": 404, "14": 503, "16": 401}


def http_status(status: int, grpc: str) -> int:
    """The HTTP status that says how a request fared, also when gRPC's is in `grpc` (empty or "-" when not)."""
    return status if grpc in ("", "-") else _HTTP_STATUS.get(grpc, 500)


def _latency_ms(line: dict[str, Any]) -> float:
    """From when the request was there to the answer's end: how slowly a client sends is not the model's doing.

    HAProxy's own time holds the sending; it is the most that can be true when the clock was set meanwhile.
    """
    most = float(line["latency_ms"])
    taken = (float(line["ended_us"]) - float(line["time_us"])) / 1000.0
    return round(taken, 3) if 0.0 <= taken <= most + 1.0 else most


def parse(datagram: bytes) -> dict[str, Any] | None:
    """One log line as a record of kind "request"; None when it is none, or of a health check.

    `canary` says whether the split sent the request to the challenger, `stand_in` whether the champion answered all
    the same, since no worker of the challenger could. `key` is a hash of the user whom the split keeps on one side.
    """
    try:
        line = json.loads(datagram)
        assigned = line["assigned"] == "1"
        record = {
            "kind": "request",
            "prediction_id": str(line["id"]),
            "time": float(line["time_us"]) / 1e6,
            "route": str(line["route"]),
            "protocol": str(line["protocol"]),
            "client": "" if line["client"] == "-" else str(line["client"]),
            "status": http_status(int(line["status"]), str(line["grpc"])),
            "latency_ms": _latency_ms(line),
            "share": int(line["share"]) / BUCKETS,
            "canary": assigned,
            "stand_in": assigned and line["canary"] == "0",
            "version": "" if line["version"] == "-" else str(line["version"]),
            "replayed": line["replayed"] == "1",
            "retries": int(str(line["retries"]).lstrip("+")),
            **({"key": str(line["key"])} if line["key"] not in ("", "-") else {}),
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if record["route"] in ("health", "other", "jobs") else record
