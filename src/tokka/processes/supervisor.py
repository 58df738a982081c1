"""A process that does next to nothing: the work is its child's, and a child that was killed is replaced at once.

code = keep("daemon", work)        # forks, has work(keeper's pid) done in the child, until it ends by itself

The stack's keeper also adopts what serves (gateway and workers), so that it outlives a daemon and not the stack. As
long as something does, a child is never given up, however often it dies: users are served while somebody looks into
it. What took long to import before `keep` is there in every child.
"""

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType

from tokka.processes import lifetime, process

logger = logging.getLogger("tokka.deployment")

# So many deaths within so many seconds are no accident.
DEATHS, WITHIN_SECONDS = 5, 60.0
# Then the next one is not started at once.
PAUSE_SECONDS = 3.0
# What dies with the child has died by then; what is left was adopted.
GRACE_SECONDS = 1.0
BROKEN = 70


class _Keeper:
    def __init__(self, name: str, work: Callable[[int], int]) -> None:
        self._name, self._work, self._pid, self._ending = name, work, 0, False

    def run(self) -> int:
        deaths: deque[float] = deque(maxlen=DEATHS)
        while True:
            self._pid = self._fork()
            code = self._wait()
            if code in range(BROKEN) or self._ending:
                return max(0, code)
            deaths.append(time.monotonic())
            often = len(deaths) == DEATHS and deaths[-1] - deaths[0] < WITHIN_SECONDS
            if often and not self._has_adopted():
                logger.error("the %s died %d times within a minute: not started again", self._name, DEATHS)
                return 1
            logger.warning("the %s died with code %d, it is started again", self._name, code)
            if often and self._is_ended_within(PAUSE_SECONDS):
                return 0

    def end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _fork(self) -> int:
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(self._name, self._work, keeper)
        if self._ending:
            os.kill(pid, signal.SIGTERM)
        return pid

    def _wait(self) -> int:
        """The child's exit code, below zero for a signal; orphans that end meanwhile are reaped."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)

    def _has_adopted(self) -> bool:
        """Whether something serves that a child had started."""
        until = time.monotonic() + GRACE_SECONDS
        try:
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.05)
        except ChildProcessError:
            return False
        return True

    def _is_ended_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._ending:
            time.sleep(0.05)
        return self._ending


def keep(name: str, work: Callable[[int], int]) -> int:
    """Work in a child, again and again while it is killed or breaks; the exit code is of one that ended by itself.

    Args:
        name: for messages.
        work: is given this process's number.
    """
    process.adopt_orphans()
    process.rename("tokka-keeper")
    keeper = _Keeper(name, work)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.end)
    return keeper.run()


def _become(name: str, work: Callable[[int], int], keeper: int) -> None:
    code = BROKEN
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        lifetime.die_with_parent(keeper)
        process.rename(f"tokka-{name}")
        code = work(keeper)
    except BaseException:
        logger.critical("the %s broke down", name, exc_info=True)
    finally:
        # Not sys.exit: the keeper's own ending is not the child's to run.
        os._exit(code)
