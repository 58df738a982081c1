"""Whether a worker still answers GET /health, asked again and again without ever waiting for it.

A stopped or hung process keeps its listener: the kernel accepts connections for it, so only an answer counts.
"""

import contextlib
import re
import socket

HOST = "127.0.0.1"
# Between two requests to a worker that answers, and to one that did not.
INTERVAL_SECONDS, RETRY_SECONDS = 1.0, 0.5
# Long enough for a worker that loads every core of the machine; a machine that wakes from sleep costs one miss.
TIMEOUT_SECONDS = 1.0
# So many misses in a row: no more requests for it; it is replaced.
SUSPECT, TOO_MANY = 2, 3
# The answer's headers; one of them counts the answers that the worker could not log.
HEAD_BYTES, UNLOGGED = 2048, re.compile(rb"\r\nx-tokka-unlogged: (\d+)\r\n", re.IGNORECASE)
_REQUEST = b"GET /health HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n"


class HealthProbe:
    """Requests to one worker, one after the other; call `misses` often."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None
        self._asked = float("-inf")
        self.missed = self.unlogged = 0

    def misses(self, now: float) -> int:
        """How many requests in a row were not answered; `now` is in seconds of the monotonic clock."""
        if self._connection is not None:
            self._listen(now)
        if self._connection is None and now - self._asked >= (RETRY_SECONDS if self.missed else INTERVAL_SECONDS):
            self._ask(now)
        return self.missed

    def close(self) -> None:
        """Ask no more."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _ask(self, now: float) -> None:
        self._asked = now
        self._connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._connection.setblocking(False)
        # On loopback a connection is there at once; where it is not, the request counts as missed in time.
        with contextlib.suppress(OSError):
            self._connection.connect((HOST, self._port))
        with contextlib.suppress(OSError):
            self._connection.send(_REQUEST)

    def _listen(self, now: float) -> None:
        assert self._connection is not None
        answered = False
        try:
            head = self._connection.recv(HEAD_BYTES)
            answered = head.startswith(b"HTTP/1.1 200")
            if found := UNLOGGED.search(head):
                self.unlogged = int(found[1])
        except OSError as error:
            if isinstance(error, BlockingIOError) and now - self._asked < TIMEOUT_SECONDS:
                return
        self.missed = 0 if answered else self.missed + 1
        self.close()
