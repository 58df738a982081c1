"""From HAProxy's log, over a Unix socket, to the request log: a record per request, with status, latency, split."""

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tokka.gateway.gateway import LOG_SOCKET, WEIGHT_TOTAL
from tokka.request_log.framing import LogRecord
from tokka.request_log.log import Writer

_RECEIVE_BYTES, _LINE_BYTES = 1 << 20, 8192
_GATHER_SECONDS = 0.005


def listen(folder: Path) -> socket.socket:
    """A socket in a folder; both are for their owner alone, so that nobody else can put in a line."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / LOG_SOCKET).unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A socket's path has 107 bytes at most, a home's may be longer.
        found.bind(
            f"/proc/self/fd/{descriptor}/{LOG_SOCKET}" if Path("/proc/self/fd").is_dir() else str(folder / LOG_SOCKET)
        )
    finally:
        os.close(descriptor)
    (folder / LOG_SOCKET).chmod(0o600)
    found.listen(16)
    return found


class Receiver:
    """A thread that takes lines until `close`; `observe` must be quick and raise nothing."""

    def __init__(
        self, writer: Writer, listening: socket.socket, observe: Callable[[LogRecord], None] = lambda record: None
    ) -> None:
        self._writer = writer
        self._observe = observe
        self.received = 0
        self.lost, self.problem = 0, ""
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._listening = listening
        self._ended, self._end = socket.socketpair()
        self._selector.register(self._ended, selectors.EVENT_READ)
        # Of each connection, the beginning of a line whose rest is still to come.
        self._parts: dict[socket.socket, bytes] = {}
        self._thread = threading.Thread(target=self._run, name="gateway-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take what has arrived, and end; the socket stays for a successor."""
        self._end.close()
        self._thread.join(timeout=2)
        self._ended.close()
        self._selector.close()
        self._writer.close()

    def _run(self) -> None:
        ending = False
        while not ending:
            ready = [key.fileobj for key, _ in self._selector.select()]
            ending = self._ended in ready
            # One turn for all that comes in the next milliseconds: one per request would cost the workers time.
            time.sleep(_GATHER_SECONDS)
            if self._listening in ready:
                self._accept()
            lines = [line for connection in list(self._parts) for line in self._lines(connection)]
            self._write([record for line in lines if (record := parse(line)) is not None])
        for connection in self._parts:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            self._selector.register(connection, selectors.EVENT_READ)
            self._parts[connection] = b""

    def _lines(self, connection: socket.socket) -> list[bytes]:
        """The whole lines that have arrived, without waiting."""
        try:
            content = connection.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            content = b""
        *lines, rest = (self._parts[connection] + content).split(b"\n")
        self._parts[connection] = rest[-_LINE_BYTES:]
        if not content:
            self._selector.unregister(connection)
            del self._parts[connection]
            connection.close()
        return lines

    def _write(self, records: list[LogRecord]) -> None:
        try:
            self._writer.append(records)
            self.received += len(records)
            self.problem = ""
        except Exception as error:
            # Not even a full disk may end this thread.
            self.lost += len(records)
            self.problem = f"the request log cannot be written, answers go out unlogged: {error}"
        for record in records:
            self._observe(record)


# The gRPC statuses of the gateway and the workers as HTTP statuses; any other is a server's failure.
_HTTP_STATUS = {"0": 200, "3": 400, "4": 504, "5": 404, "7": 403, "8": 429, "12": 404, "14": 503, "16": 401}


# HAProxy's termination states: the client broke off, or was too slow.
_CLIENTS_DOING = ("C", "c")


def http_status(status: int, grpc: str) -> int:
    """The HTTP status of a request, also when gRPC's is in `grpc` (empty or "-" when not)."""
    return status if grpc in ("", "-") else _HTTP_STATUS.get(grpc, 500)


def _latency_ms(line: Mapping[str, object]) -> float:
    """From the request's arrival to the answer's, without the time that a slow client takes to send or to read.

    HAProxy's own time holds both; it is the upper bound when the clock was set meanwhile.
    """
    answered = line["ended_us" if line.get("answered_us", "-") in ("", "-") else "answered_us"]
    most, ended, began = (float(str(one)) for one in (line["latency_ms"], answered, line["time_us"]))
    taken = (ended - began) / 1000.0
    return round(taken, 3) if 0.0 <= taken <= most + 1.0 else most


def parse(line_bytes: bytes) -> LogRecord | None:
    """One log line as a record of kind "request"; None when it is none, or of a health check or a job.

    `canary`: the split sent the request to the challenger; `stand_in`: the champion answered instead, since no worker
    of the challenger could; `key`: a hash of the user, whose requests all go to one side of the split. Only where it
    holds: `trusted`, the caller's word counts in full; `named`, a version was named; `shed`, refused since all were
    busy; `aborted`, the client went away.
    """
    try:
        line = json.loads(line_bytes)
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
        # Only what holds: most requests have none of it.
        if line["trusted"] == "1":
            record["trusted"] = True
        if line["named"] == "1":
            record["named"] = True
        if line["shed"] == "1":
            record["shed"] = True
        if str(line["end"])[:1] in _CLIENTS_DOING:
            record["aborted"] = True
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if record["route"] in ("health", "other", "jobs") else record
