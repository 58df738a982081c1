"""The workers of one machine: as many per revision as wanted, started, watched, replaced and ended, without waiting."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from tokka import failpoints
from tokka.deployment.record.state import Revision
from tokka.errors import TokkaError
from tokka.processes import process
from tokka.processes.detached import DetachedProcess
from tokka.processes.health_probe import SUSPECT, TOO_MANY, HealthProbe
from tokka.stack.state_file import WorkerInfo

logger = logging.getLogger("tokka.stack")

# (revision, file that the worker writes once it is ready) to the worker.
Spawn = Callable[[Revision, Path], DetachedProcess]

START_SECONDS = 120.0
DRAIN_SECONDS = 12.0
# How long a worker that left the split goes on, so that what is on its way to it arrives.
LINGER_SECONDS = 0.5
# Waiting times before a revision's next start, by how often its workers have failed in a row.
BACKOFF_SECONDS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# The death of a worker that has answered for so long does not count as a failure of its revision.
STABLE_SECONDS = 20.0


class ReadyFile(TypedDict, total=False):
    """What a worker writes once it is ready, or why it cannot be."""

    port: int
    grpc_port: int | None
    seconds: float
    error: str


class Worker:
    """One worker; `since` is when its state began (monotonic clock), `signalled` whether it was told to end."""

    def __init__(self, info: WorkerInfo) -> None:
        self.info, self.process = info, DetachedProcess(info.pid, info.started)
        self.since, self.signalled = time.monotonic(), False
        self.probe = HealthProbe(info.port) if info.ready else None

    @property
    def unlogged(self) -> int:
        """Its answers that the request log could not take."""
        return self.probe.unlogged if self.probe is not None else 0

    @property
    def missed(self) -> int:
        """Health checks in a row that were not answered."""
        return self.probe.missed if self.probe is not None else 0

    def become(self, **changes: object) -> None:
        """Change what is said of it."""
        self.info, self.since = self.info.model_copy(update=changes), time.monotonic()

    def close(self) -> None:
        """Let go of what is held for a worker that ends."""
        Path(self.info.ready_file).unlink(missing_ok=True)
        if self.probe is not None:
            self.probe.close()
            self.probe = None


@dataclass
class History:
    """How a revision's workers fared: failures in a row, when the next may start, what the last one said."""

    failures: int = 0
    not_before: float = 0.0
    problem: str = ""
    restarts: int = 0

    def fail(self, now: float, problem: str = "", *, stable: bool = False) -> None:
        """Count a failure; after a `stable` life it is the first one."""
        self.failures = 1 if stable else self.failures + 1
        self.not_before = now + BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS) - 1)]
        self.problem = problem or self.problem


class Fleet:
    """Every worker of this machine, `count` of each revision, and those that an earlier daemon has told of.

    The folder takes the ready files; it is emptied, but for those of the inherited.
    """

    def __init__(self, spawn: Spawn, *, count: int, folder: Path, inherited: Iterable[WorkerInfo] = ()) -> None:
        self._spawn, self._count, self._folder = spawn, count, folder
        self._workers = [Worker(info) for info in inherited if process.is_same(info.pid, info.started)]
        self._histories: dict[str, History] = {}
        self._serial = self._unlogged_before = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in set(folder.iterdir()) - {Path(info.ready_file) for info in self.infos}:
            path.unlink()

    @property
    def infos(self) -> tuple[WorkerInfo, ...]:
        """Every worker that has not ended."""
        return tuple(worker.info for worker in self._workers)

    def ready(self, revision: Revision | None) -> tuple[WorkerInfo, ...]:
        """The workers of a revision that answer."""
        return tuple(info for info in self.infos if info.ready and info.revision == revision)

    def answering(self, revision: Revision | None) -> tuple[WorkerInfo, ...]:
        """Those of them that did not miss their last health checks; when all did, all of them."""
        suspect = {worker.info.pid for worker in self._workers if worker.missed >= SUSPECT}
        ready = self.ready(revision)
        return tuple(info for info in ready if info.pid not in suspect) or ready

    def is_calm(self, wanted: set[Revision]) -> bool:
        """Whether exactly the wanted workers run, and all of them answer."""
        well = [worker for worker in self._workers if worker.info.ready and not worker.missed]
        return len(well) == len(self._workers) == self._count * len(wanted)

    def problems(self, wanted: Iterable[Revision]) -> list[str]:
        """What keeps wanted revisions from being ready, one sentence each."""
        found = {revision.version: self._histories.get(key(revision)) for revision in wanted}
        return [f"version {name}: {history.problem}" for name, history in found.items() if history and history.problem]

    def restarts(self) -> int:
        """How many workers had to be replaced."""
        return sum(history.restarts for history in self._histories.values())

    def unlogged(self) -> int:
        """How many answers the request log could not take, also of workers that have ended."""
        return self._unlogged_before + sum(worker.unlogged for worker in self._workers)

    def step(self, wanted: set[Revision]) -> None:
        """Notice who died or became ready, start who is missing, end who is not wanted; never waits."""
        for worker in list(self._workers):
            self._look_after(worker, wanted)
        for revision in sorted(wanted, key=key):
            alive = [info for info in self.infos if info.revision == revision and info.state != "stopping"]
            for _ in range(self._count - len(alive)):
                self._start(revision)

    def stop(self, seconds: float = DRAIN_SECONDS) -> None:
        """End every worker and wait for it: drain first, then kill."""
        for worker in self._workers:
            worker.close()
            worker.process.send(signal.SIGTERM)
        left = process.wait_gone({info.pid: info.started for info in self.infos}, seconds)
        for worker in self._workers:
            worker.process.send(signal.SIGKILL)
        process.wait_gone(left, seconds)
        self._workers = []

    def _look_after(self, worker: Worker, wanted: set[Revision]) -> None:
        now = time.monotonic()
        if not worker.process.alive():
            self._workers.remove(worker)
            self._unlogged_before += worker.unlogged
            if worker.info.state != "stopping":
                self._note_death(worker, now)
            worker.close()
        elif worker.info.state == "stopping":
            _drain(worker, now)
        elif worker.info.revision not in wanted:
            worker.become(state="stopping")
        elif worker.info.state == "starting":
            self._look_for_ready_file(worker, now)
        elif worker.probe is not None and worker.probe.misses(now) >= TOO_MANY:
            logger.warning("a worker hangs and is killed", extra=_facts(worker))
            worker.close()
            worker.process.send(signal.SIGKILL)

    def _look_for_ready_file(self, worker: Worker, now: float) -> None:
        said = _read(worker)
        if "port" in said:
            worker.become(state="ready", port=said["port"], grpc_port=said["grpc_port"], seconds=said["seconds"])
            worker.probe = HealthProbe(said["port"])
            self._history(worker.info.revision).problem = ""
        elif now - worker.since > START_SECONDS:
            self._history(worker.info.revision).problem = f"not ready after {START_SECONDS:.0f} s"
            worker.process.send(signal.SIGKILL)

    def _note_death(self, worker: Worker, now: float) -> None:
        logger.warning("a worker has ended, another one takes its place", extra=_facts(worker))
        history, starting = self._history(worker.info.revision), worker.info.state == "starting"
        history.restarts += 1
        problem = _read(worker).get("error", "a worker died while it started: see its log") if starting else ""
        history.fail(now, problem, stable=worker.info.ready and now - worker.since > STABLE_SECONDS)

    def _start(self, revision: Revision) -> None:
        history, now = self._history(revision), time.monotonic()
        if now < history.not_before:
            return
        self._serial += 1
        # With our pid: a worker that an earlier daemon started may yet write its own.
        ready_file = self._folder / f"{os.getpid()}-{self._serial}.json"
        try:
            with failpoints.at("start"):
                started = self._spawn(revision, ready_file)
        except TokkaError as error:
            history.fail(now, error.message)
            return
        info = WorkerInfo(
            version=revision.version, digest=revision.digest, pid=started.pid, started=started.started,
            state="starting", ready_file=str(ready_file),
        )  # fmt: skip
        self._workers.append(Worker(info))

    def _history(self, revision: Revision) -> History:
        return self._histories.setdefault(key(revision), History())


def key(revision: Revision) -> str:
    """A revision's name at the gateway."""
    return f"{revision.version}@{revision.digest}"


def digest(name: str) -> str | None:
    """The digest in such a name; None in nobody's."""
    return name.partition("@")[2] or None


def bare(revision: Revision) -> Revision:
    """Without what does not matter to a worker, so that the same model is the same key."""
    return Revision(version=revision.version, digest=revision.digest)


def _drain(worker: Worker, now: float) -> None:
    if not worker.signalled and now - worker.since > LINGER_SECONDS:
        with failpoints.at("stop"):
            worker.process.send(signal.SIGTERM)
        worker.signalled = True
    elif now - worker.since > LINGER_SECONDS + DRAIN_SECONDS:
        worker.process.send(signal.SIGKILL)


def _facts(worker: Worker) -> dict[str, object]:
    info = worker.info
    return {"worker": info.pid, "revision": key(info.revision), "state": info.state}


def _read(worker: Worker) -> ReadyFile:
    try:
        return cast(ReadyFile, json.loads(Path(worker.info.ready_file).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
