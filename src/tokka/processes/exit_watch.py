"""Wait for the end of one of several processes, whosever children they are, without polling (Linux: pidfd)."""

import contextlib
import os
import select
import time
from collections.abc import Collection

LINUX = hasattr(os, "pidfd_open")


class ExitWatch:
    """Tells once of each end; where there is no pidfd, of none."""

    def __init__(self) -> None:
        self._ended: set[int] = set()

    def wait(self, pids: Collection[int], seconds: float) -> bool:
        """Wait until one of the processes ends, or for some seconds; whether one has ended."""
        if not LINUX:
            time.sleep(seconds)
            return False
        self._ended &= set(pids)
        gone, poll = set(), select.poll()
        with contextlib.ExitStack() as opened:
            watched = {}
            for pid in set(pids) - self._ended:
                try:
                    watched[fd := os.pidfd_open(pid)] = pid
                    opened.callback(os.close, fd)
                    poll.register(fd, select.POLLIN)
                except OSError:
                    gone.add(pid)
            gone |= {watched[fd] for fd, _ in poll.poll(0 if gone else seconds * 1000)}
        self._ended |= gone
        return bool(gone)
