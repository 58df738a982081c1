"""The workers of one machine: as many per revision as wanted, started, watched, replaced and ended, without waiting.

fleet = Fleet(spawn, stop_after=…)
fleet.step({revision, …})          # called again and again; each call does what can be done now
fleet.ready(revision)              # workers that answer
"""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokka import failpoints
from tokka.deployment.record.state import Revision
from tokka.errors import TokkaError
from tokka.processes import process
from tokka.processes.health_probe import TOO_MANY, Pulse

logger = logging.getLogger("tokka.deployment")

# (revision, file that the worker writes once it is ready) to the pid of a child of this process.
Spawn = Callable[[Revision, Path], int]

START_SECONDS = 120.0
DRAIN_SECONDS = 12.0
# How long a worker that left the split goes on, so that what is on its way to it arrives.
LINGER_SECONDS = 0.5
# Waiting times before a revision's next start, by how often its workers have failed in a row.
BACKOFF_SECONDS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that has answered for so long was no failure of its revision.
STABLE_SECONDS = 20.0


@dataclass
class Worker:
    """One worker process; times are of the monotonic clock."""

    revision: Revision
    pid: int
    started: float
    ready_file: Path
    born: float
    state: Literal["starting", "ready", "stopping"] = "starting"
    port: int = 0
    grpc_port: int | None = None
    seconds: float = 0.0
    since: float = 0.0
    signalled: float = 0.0
    pulse: Pulse | None = field(default=None, repr=False)

    def close(self) -> None:
        """Let go of what is held for a worker that ends."""
        self.ready_file.unlink(missing_ok=True)
        if self.pulse is not None:
            self.pulse.close()
            self.pulse = None

    def describe(self) -> dict[str, object]:
        """The worker as plain data, for state.json."""
        return {
            "version": self.revision.version, "digest": self.revision.digest, "pid": self.pid, "started": self.started,
            "state": self.state, "port": self.port, "grpc_port": self.grpc_port, "seconds": self.seconds,
            "ready_file": str(self.ready_file),
        }  # fmt: skip


@dataclass
class _History:
    """How a revision's workers fared: failures in a row, when the next may start, what the last one said."""

    failures: int = 0
    not_before: float = 0.0
    problem: str = ""
    restarts: int = 0


class Fleet:
    """Every worker of this machine, whatever its revision.

    Args:
        spawn: starts one worker.
        count: workers per revision.
        folder: for the ready files; emptied, but for those of the inherited.
        inherited: workers that an earlier daemon has left.
    """

    def __init__(self, spawn: Spawn, *, count: int, folder: Path, inherited: Iterable[Worker] = ()) -> None:
        self._spawn = spawn
        self._count = count
        self._folder = folder
        self._workers = list(inherited)
        self._histories: dict[str, _History] = {}
        self._serial = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in set(folder.iterdir()) - {worker.ready_file for worker in self._workers}:
            path.unlink()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Every worker that has not ended."""
        return tuple(self._workers)

    def ready(self, revision: Revision | None) -> tuple[Worker, ...]:
        """The workers of a revision that answer."""
        return tuple(worker for worker in self._workers if worker.state == "ready" and worker.revision == revision)

    def problems(self, wanted: Iterable[Revision]) -> list[str]:
        """What keeps wanted revisions from being ready, one sentence each."""
        found = {revision.version: self._histories.get(key(revision)) for revision in wanted}
        return [f"version {name}: {history.problem}" for name, history in found.items() if history and history.problem]

    def restarts(self) -> int:
        """How many workers had to be replaced."""
        return sum(history.restarts for history in self._histories.values())

    def step(self, wanted: set[Revision]) -> None:
        """Notice who died or became ready, start who is missing, end who is not wanted; never waits."""
        for worker in list(self._workers):
            self._look_after(worker, wanted)
        for revision in sorted(wanted, key=key):
            alive = [worker for worker in self._workers if worker.revision == revision and worker.state != "stopping"]
            for _ in range(self._count - len(alive)):
                self._start(revision)

    def stop(self, seconds: float = DRAIN_SECONDS) -> None:
        """End every worker and wait for it: drain first, then kill."""
        for worker in self._workers:
            worker.close()
            _send(worker, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self._workers and time.monotonic() < deadline:
            self._workers = [worker for worker in self._workers if not _has_ended(worker)]
            time.sleep(0.01)
        for worker in self._workers:
            _send(worker, signal.SIGKILL)
        process.wait_gone({worker.pid: worker.started for worker in self._workers}, seconds)
        self._workers = []

    def _look_after(self, worker: Worker, wanted: set[Revision]) -> None:
        now = time.monotonic()
        if _has_ended(worker):
            self._workers.remove(worker)
            if worker.state != "stopping":
                self._note_death(worker, now)
            worker.close()
        elif worker.state == "stopping":
            if not worker.signalled and now - worker.since > LINGER_SECONDS:
                with failpoints.at("stop"):
                    _send(worker, signal.SIGTERM)
                worker.signalled = now
            elif worker.signalled and now - worker.signalled > DRAIN_SECONDS:
                _send(worker, signal.SIGKILL)
        elif worker.revision not in wanted:
            worker.state, worker.since = "stopping", now
        elif worker.state == "starting":
            self._look_for_ready_file(worker, now)
        elif worker.pulse is not None and worker.pulse.misses(now) >= TOO_MANY:
            facts = {"worker": worker.pid, "revision": key(worker.revision)}
            logger.warning("a worker hangs and is killed", extra=facts)
            worker.close()
            _send(worker, signal.SIGKILL)

    def _look_for_ready_file(self, worker: Worker, now: float) -> None:
        said = _read(worker.ready_file)
        if "port" in said:
            worker.state, worker.since = "ready", now
            worker.pulse = Pulse(said["port"])
            worker.port, worker.grpc_port, worker.seconds = said["port"], said["grpc_port"], said["seconds"]
            self._history(worker.revision).problem = ""
        elif now - worker.born > START_SECONDS:
            self._history(worker.revision).problem = f"not ready after {START_SECONDS:.0f} s"
            _send(worker, signal.SIGKILL)

    def _note_death(self, worker: Worker, now: float) -> None:
        history = self._history(worker.revision)
        history.restarts += 1
        facts = {"worker": worker.pid, "revision": key(worker.revision), "state": worker.state}
        logger.warning("a worker has ended, another one takes its place", extra=facts)
        stable = worker.state == "ready" and now - worker.since > STABLE_SECONDS
        history.failures = 1 if stable else history.failures + 1
        history.not_before = now + BACKOFF_SECONDS[min(history.failures, len(BACKOFF_SECONDS) - 1)]
        if worker.state == "starting":
            history.problem = str(
                _read(worker.ready_file).get("error") or "a worker died while it started: see its log"
            )

    def _start(self, revision: Revision) -> None:
        history, now = self._history(revision), time.monotonic()
        if now < history.not_before:
            return
        self._serial += 1
        # With our number: a worker that an earlier daemon started may yet write its own.
        ready_file = self._folder / f"{os.getpid()}-{self._serial}.json"
        try:
            with failpoints.at("start"):
                pid = self._spawn(revision, ready_file)
        except TokkaError as error:
            history.failures += 1
            history.not_before = now + BACKOFF_SECONDS[min(history.failures, len(BACKOFF_SECONDS) - 1)]
            history.problem = error.message
            return
        self._workers.append(Worker(revision, pid, process.identity(pid), ready_file, born=now))

    def _history(self, revision: Revision) -> _History:
        return self._histories.setdefault(key(revision), _History())


def key(revision: Revision) -> str:
    """A revision's name at the gateway."""
    return f"{revision.version}@{revision.digest}"


def digest(name: str) -> str | None:
    """The digest in such a name; None in nobody's."""
    return name.partition("@")[2] or None


def bare(revision: Revision) -> Revision:
    """Without what does not matter to a worker, so that the same model is the same key."""
    return Revision(version=revision.version, digest=revision.digest)


def _has_ended(worker: Worker) -> bool:
    """Reap it if it is our child and has ended; the stack's keeper reaps the others."""
    try:
        return os.waitpid(worker.pid, os.WNOHANG)[0] == worker.pid
    except ChildProcessError:
        return not process.is_same(worker.pid, worker.started)


def _send(worker: Worker, number: int) -> None:
    process.send(worker.pid, worker.started, number)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
