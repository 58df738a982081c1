"""Run some work in a forked child, and fork another one while the child is killed or breaks down.

The supervisor also adopts the detached processes (gateway, workers), so that they outlive a daemon and not the stack.
While it has adopted any, the child is started again however and however often it ends: only `end` is an end then. What
was imported before `supervise` is there in every child at once.
"""

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType

from tokka.processes import process

logger = logging.getLogger("tokka.processes")

# So many deaths within so many seconds: given up, or started again only after a pause.
DEATHS, WITHIN_SECONDS = 5, 60.0
PAUSE_SECONDS = 3.0
# What dies with the child has died by then; what is left was adopted.
GRACE_SECONDS = 1.0
# The exit code of a child whose work raised.
BROKEN = 70

Work = Callable[[int], int]


class Supervisor:
    """The parent of one child at a time; `end` is its handler of SIGTERM and SIGINT."""

    def __init__(self, name: str, work: Work) -> None:
        self._name, self._work, self._pid, self._ending = name, work, 0, False

    def run(self) -> int:
        """The exit code of a child that ended by itself and left nothing running, or 1 when it died too often."""
        deaths: deque[float] = deque(maxlen=DEATHS)
        while True:
            self._pid = self._fork()
            code = self._wait()
            if self._ending or (code in range(BROKEN) and not self._has_adopted()):
                return max(0, code)
            deaths.append(time.monotonic())
            often = len(deaths) == DEATHS and deaths[-1] - deaths[0] < WITHIN_SECONDS
            if often and not self._has_adopted():
                logger.error("the %s died %d times within a minute: not started again", self._name, DEATHS)
                return 1
            logger.warning("the %s ended with code %d, it is started again", self._name, code)
            if often:
                self._sleep(PAUSE_SECONDS)
                if self._ending:
                    return 0

    def end(self, number: int, frame: FrameType | None) -> None:
        """Have the child end, and start no other."""
        self._ending = True
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _fork(self) -> int:
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_child(self._name, self._work, supervisor)
        if self._ending:
            os.kill(pid, signal.SIGTERM)
        return pid

    def _wait(self) -> int:
        """The child's exit code, below zero for a signal; adopted processes that end meanwhile are reaped."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)

    def _has_adopted(self) -> bool:
        self._sleep(GRACE_SECONDS)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def _sleep(self, seconds: float) -> None:
        """Less, if it is to end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._ending:
            time.sleep(0.05)


def supervise(name: str, work: Work) -> int:
    """Work in a child, again and again while it is killed, breaks, or leaves something running.

    The exit code is of one that ended by itself.

    `work` is given this process's pid, and returns its exit code.
    """
    process.adopt_orphans()
    process.rename("tokka-supervise")
    supervisor = Supervisor(name, work)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.end)
    return supervisor.run()


def _become_child(name: str, work: Work, supervisor: int) -> None:
    code = BROKEN
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        process.die_with_parent(supervisor)
        process.rename(f"tokka-{name}")
        code = work(supervisor)
    except BaseException:
        logger.critical("the %s broke down", name, exc_info=True)
    finally:
        # Not sys.exit: what the supervisor registered to run at its own end is not the child's to run.
        os._exit(code)
