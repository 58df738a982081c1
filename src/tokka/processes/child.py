"""A program that is a child of this process and ends with it; see also `DetachedProcess`, which outlives it."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokka.processes import process


class Child(subprocess.Popen[bytes]):
    """One running program, whose output is appended to `log`; raises OSError when it cannot be started."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, niceness: int = 0
    ) -> None:
        parent = os.getpid()

        def become_child() -> None:
            process.die_with_parent(parent)
            os.nice(niceness)

        with log.open("ab") as output:
            super().__init__(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=become_child,
            )  # fmt: skip

    def stop(self, number: int, seconds: float) -> None:
        """Send it a signal, kill it if it has not ended after some seconds, and wait for it."""
        self.send_signal(number)
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
