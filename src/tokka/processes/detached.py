"""A program that outlives whoever starts it: the child of an ancestor that adopts orphans, and ends with that one.

ward = Ward.start(command, guardian=os.getppid(), folder=folder, log=log)
ward.remember(file)
ward = Ward.recall(file, guardian)        # by a successor of whoever started it; None when it has ended
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import lifetime, process


class Ward:
    """One process, known by its number and its start."""

    def __init__(self, pid: int, started: float) -> None:
        self.pid, self.started = pid, started

    @classmethod
    def start(
        cls, command: list[str], *, guardian: int, folder: Path, log: Path, environment: dict[str, str] | None = None,
        niceness: int = 0,
    ) -> "Ward":  # fmt: skip
        """Start a program in a folder.

        Args:
            guardian: an ancestor of this process, or this process, that has called `process.adopt_orphans`.
            log: takes its output.

        Raises:
            TokkaError: the guardian has ended.
        """
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    preexec_fn=lambda: _leave(guardian, writing, niceness), env=environment,
                ).wait()  # fmt: skip
            pid = int(os.read(reading, 32))
        except (OSError, subprocess.SubprocessError) as error:
            raise TokkaError(f"{command[0]} cannot be started: {error}") from None
        finally:
            os.close(reading)
            os.close(writing)
        return cls(pid, process.identity(pid))

    @classmethod
    def find(cls, pid: int, started: float, guardian: int) -> "Ward | None":
        """The process of this number and start, if it lives and is a child of the guardian."""
        try:
            is_ours = process.is_same(pid, started) and psutil.Process(pid).ppid() == guardian
        except psutil.Error:
            return None
        return cls(pid, started) if is_ours else None

    @classmethod
    def recall(cls, file: Path, guardian: int) -> "Ward | None":
        """The process that `remember` wrote down, if it lives and is a child of the guardian."""
        try:
            facts = files.read_json(file)
            return cls.find(int(facts["pid"]), float(facts["started"]), guardian)
        except (TokkaError, KeyError, TypeError, ValueError):
            return None

    def remember(self, file: Path) -> None:
        """Write down which process it is."""
        files.write_json(file, {"pid": self.pid, "started": self.started})

    def alive(self) -> bool:
        """Whether it lives."""
        return process.is_same(self.pid, self.started)

    def send(self, number: int) -> None:
        """Send it a signal."""
        process.send(self.pid, self.started, number)

    def stop(self, number: int, seconds: float) -> None:
        """Send it a signal, and kill it if it has not ended after some seconds."""
        self.send(number)
        if process.wait_gone({self.pid: self.started}, seconds):
            self.send(signal.SIGKILL)
            process.wait_gone({self.pid: self.started}, seconds)


def adopting() -> int:
    """This process as a guardian."""
    process.adopt_orphans()
    return os.getpid()


def _leave(guardian: int, writing: int, niceness: int) -> None:
    """In the child, before the program: become the guardian's, whose children die with it."""
    if os.fork():
        os._exit(0)
    os.write(writing, b"%d" % os.getpid())
    for _ in range(5000):
        if os.getppid() == guardian:
            break
        time.sleep(0.001)
    lifetime.die_with_parent(guardian)
    os.nice(niceness)
