"""Group fsync: what many requests wrote reaches the disk together, off their path, within a bounded time.

A process that is killed loses nothing that was written; this bounds what a power cut or a dead kernel may take.
"""

import contextlib
import os
import threading

INTERVAL_SECONDS = 0.2
RECORDS = 512


class GroupSync:
    """A thread that syncs one file at a time; it starts with the first record, so after a fork.

    A record reaches the disk within `interval` seconds, or as soon as `records` of them wait.
    """

    def __init__(self, interval: float = INTERVAL_SECONDS, records: int = RECORDS) -> None:
        self._interval, self._records = interval, records
        self._condition = threading.Condition()
        self._descriptor, self._waiting, self._closed = -1, 0, False
        self._thread: threading.Thread | None = None
        self.syncs = 0

    def wrote(self, descriptor: int, count: int) -> None:
        """Say that `count` records were written; returns at once."""
        with self._condition:
            self._descriptor = descriptor
            self._waiting += count
            if self._thread is None:
                self._closed = False
                self._thread = threading.Thread(target=self._run, name="request-log-sync", daemon=True)
                self._thread.start()
            elif self._waiting == count or self._waiting >= self._records:
                self._condition.notify()

    def close(self) -> None:
        """Sync what waits, and end the thread; the descriptor may be closed then."""
        with self._condition:
            thread, self._thread, self._closed = self._thread, None, True
            self._condition.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closed)
                self._condition.wait_for(lambda: self._waiting >= self._records or self._closed, self._interval)
                if not self._waiting:
                    return
                # The count is taken before the sync: what comes meanwhile waits for the next one.
                descriptor, self._waiting = self._descriptor, 0
            # A full or broken disk fails the next write as well, and that one raises.
            with contextlib.suppress(OSError):
                os.fdatasync(descriptor)
                self.syncs += 1
