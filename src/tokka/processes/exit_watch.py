"""Wait for the end of one of several processes, whosever children they are, without polling (Linux: pidfd).

ended = exit_watch.wait({4711, 4712}, seconds=0.1)
"""

import os
import select
import time
from collections.abc import Collection

LINUX = hasattr(os, "pidfd_open")


class ExitWatch:
    """Where there is no pidfd, nothing is noticed."""

    def __init__(self) -> None:
        self._poll, self._pids = select.poll(), dict[int, int]()
        # Those that have ended: told of once.
        self._ended: set[int] = set()

    def wait(self, pids: Collection[int], seconds: float) -> bool:
        """Wait until one of the processes ends, or for some seconds; whether one has ended."""
        if not LINUX:
            time.sleep(seconds)
            return False
        known, wanted = {*self._pids.values(), *self._ended}, set(pids)
        for fd in [fd for fd, pid in self._pids.items() if pid not in wanted]:
            self._forget(fd)
        self._ended &= wanted
        gone = [pid for pid in wanted - known if not self._watch(pid)]
        found = [self._forget(fd) for fd, _ in self._poll.poll(0 if gone else seconds * 1000)]
        self._ended |= {*gone, *found}
        return bool(gone or found)

    def _watch(self, pid: int) -> bool:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        self._poll.register(fd, select.POLLIN)
        self._pids[fd] = pid
        return True

    def _forget(self, fd: int) -> int:
        self._poll.unregister(fd)
        os.close(fd)
        return self._pids.pop(fd)
