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
        # None for a process that has ended: it is told of once.
        self._fds: dict[int, int | None] = {}

    def wait(self, pids: Collection[int], seconds: float) -> bool:
        """Wait until one of the processes ends, or for some seconds; whether one has ended."""
        if not LINUX:
            time.sleep(seconds)
            return False
        for pid in set(self._fds) - set(pids):
            self._close(pid)
            del self._fds[pid]
        new = {pid: _open(pid) for pid in set(pids) - set(self._fds)}
        self._fds |= new
        poll, by_fd = select.poll(), {fd: pid for pid, fd in self._fds.items() if fd is not None}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        gone = None in new.values()
        ended = [by_fd[fd] for fd, _ in poll.poll(0 if gone else seconds * 1000)]
        for pid in ended:
            self._close(pid)
        return bool(ended) or gone

    def _close(self, pid: int) -> None:
        if (fd := self._fds[pid]) is not None:
            os.close(fd)
            self._fds[pid] = None


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
