"""A program that outlives its starter: an ancestor that adopts orphans becomes its parent, and it ends with that."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tokka import files
from tokka.errors import TokkaError
from tokka.processes import process


class DetachedProcess:
    """One process, known by its number and its start; see also `Child`, which ends with its starter."""

    def __init__(self, pid: int, started: float) -> None:
        self.pid, self.started = pid, started

    @classmethod
    def start(
        cls, command: Sequence[str], *, supervisor: int, folder: Path, log: Path,
        environment: Mapping[str, str] | None = None, niceness: int = 0,
    ) -> "DetachedProcess":  # fmt: skip
        """Start a program in a folder, its output appended to `log`.

        The supervisor is an ancestor of this process, or this process, that has called `process.adopt_orphans`. Raises
        TokkaError when the program cannot be started, or the supervisor has ended.
        """
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    preexec_fn=lambda: _detach(supervisor, writing, niceness), env=environment,
                ).wait()  # fmt: skip
            pid = int(os.read(reading, 32))
        except (OSError, subprocess.SubprocessError) as error:
            raise TokkaError(f"{command[0]} cannot be started: {error}") from None
        finally:
            os.close(reading)
            os.close(writing)
        return cls(pid, process.identity(pid))

    @classmethod
    def recall(cls, file: Path, supervisor: int) -> "DetachedProcess | None":
        """The process that `remember` wrote down, if it lives and is a child of the supervisor."""
        try:
            facts = files.read_json(file)
            found = cls(int(facts["pid"]), float(facts["started"]))
            return found if found.alive() and psutil.Process(found.pid).ppid() == supervisor else None
        except (TokkaError, KeyError, TypeError, ValueError, psutil.Error):
            return None

    def remember(self, file: Path) -> None:
        """Write down which process it is."""
        files.write_json(file, {"pid": self.pid, "started": self.started})

    def alive(self) -> bool:
        """Whether it lives."""
        return process.is_same(self.pid, self.started)

    def poll(self) -> int | None:
        """None while it runs, then -1: its exit code goes to the supervisor."""
        return None if self.alive() else -1

    def send(self, number: int) -> None:
        """Send it a signal."""
        process.send(self.pid, self.started, number)

    def stop(self, number: int, seconds: float) -> None:
        """Send it a signal, kill it if it has not ended after some seconds, and wait for it."""
        for each in (number, signal.SIGKILL):
            self.send(each)
            if not process.wait_gone({self.pid: self.started}, seconds):
                return


def adopting() -> int:
    """Make this process a supervisor, and return its pid."""
    process.adopt_orphans()
    return os.getpid()


def _detach(supervisor: int, writing: int, niceness: int) -> None:
    """Between fork and exec: fork again, and wait until the supervisor is the parent."""
    if os.fork():
        os._exit(0)
    os.write(writing, b"%d" % os.getpid())
    for _ in range(5000):
        if os.getppid() == supervisor:
            break
        time.sleep(0.001)
    process.die_with_parent(supervisor)
    os.nice(niceness)
