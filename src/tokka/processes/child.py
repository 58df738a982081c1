"""A program that is a child of this process, is awaited by it, and ends with it.

child = Child.start([sys.executable, "-m", "tokka.gateway.authorizer", path], log=log)
child.poll()                          # None while it runs, then its exit code
child.stop(signal.SIGTERM, 5.0)
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokka.processes import process


class Child:
    """One running program; see also `DetachedProcess`, which outlives its starter."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen, self.pid = popen, popen.pid

    @classmethod
    def start(
        cls, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, niceness: int = 0
    ) -> "Child":
        """Start a program, whose output is appended to `log`.

        Raises:
            OSError: it cannot be started.
        """
        parent = os.getpid()

        def become_child() -> None:
            process.die_with_parent(parent)
            os.nice(niceness)

        with log.open("ab") as output:
            return cls(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    preexec_fn=become_child,
                )
            )  # fmt: skip

    def poll(self) -> int | None:
        """The exit code once it has ended, below zero for a signal; None while it runs."""
        return self._popen.poll()

    def stop(self, number: int, seconds: float) -> None:
        """Send it a signal, kill it if it has not ended after some seconds, and wait for it."""
        self._popen.send_signal(number)
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
