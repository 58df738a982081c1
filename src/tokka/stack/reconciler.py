"""Gateway and workers, brought in line with the record; what a killed daemon has left is taken over as it serves."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import psutil

from tokka.deployment.record.state import Revision, State
from tokka.errors import TokkaError
from tokka.gateway.exposure import Exposure
from tokka.gateway.gateway import NOBODY, Gateway, Split
from tokka.jobs.broker import SOCKET
from tokka.params import Params
from tokka.processes import process
from tokka.processes.detached import DetachedProcess
from tokka.processes.stack_key import FILE as STACK_KEY
from tokka.serving.options import ENVIRONMENT, MODULE, WorkerOptions, command
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.services import broker
from tokka.stack.stack import status
from tokka.stack.state_file import StackInfo
from tokka.stack.workers import Fleet, bare, digest, key

logger = logging.getLogger("tokka.stack")

# The gateway is compared with what it was told so often, while calm and while not.
VERIFY_CALM_SECONDS, VERIFY_SECONDS = 10.0, 1.0
REVIVE_SECONDS = 1.0
# How long after its start a daemon looks for workers that the one before it was just starting when it was killed.
STRAY_SECONDS, STRAY_INTERVAL_SECONDS = 10.0, 1.0


class Reconciler:
    """Starts and ends gateway and workers, children of the `supervisor`.

    Raises TokkaError when the port is taken, or the gateway does not start.
    """

    def __init__(self, settings: Settings, params: Params, exposure: Exposure, supervisor: int) -> None:
        self._settings, self._params, self._exposure = settings, params, exposure
        self._supervisor, self._born = supervisor, time.monotonic()
        self._folder, self._logs = state_file.folder(settings), settings.home / "logs"
        self._jobs = SOCKET if broker(settings, params) else ""
        last = status(settings)
        self._serving, self.generation = _served(last) if last else None, last.generation if last else -1
        self.fleet = Fleet(
            self._spawn, count=params.serving.workers, folder=self._folder / "workers",
            inherited=last.workers if last else (),
        )  # fmt: skip
        self._split, self.observed = Split(), Split()
        self._last = dict.fromkeys(("verify", "gateway", "strays"), 0.0)
        self.gateway = self._make_gateway()

    def step(self, state: State, *, calm: bool = False) -> bool:
        """Do what can be done now, without waiting; whether the split or the generation in force changed.

        While it is `calm` nothing moves, so that the gateway need not be compared at once.
        """
        self._revive()
        self._end_strays()
        self.fleet.step(self.wanted(state))
        champion = bare(state.champion) if state.champion else None
        if champion is None or self.fleet.ready(champion):
            self._serving = champion
        split, in_force = self._wanted_split(state), self.generation
        if self._serving == champion:
            in_force = state.generation
        changed = (split, in_force) != (self._split, self.generation)
        due = self._is_due("verify", VERIFY_CALM_SECONDS if calm else VERIFY_SECONDS)
        return (changed or due) and self._apply(split, in_force) and changed

    def is_calm(self, state: State) -> bool:
        """Whether everything is as the record says."""
        return self.generation == state.generation and self.gateway.alive() and self.fleet.is_calm(self.wanted(state))

    @property
    def pids(self) -> list[int]:
        """The gateway's processes and the workers."""
        return [*self.gateway.pids, *(info.pid for info in self.fleet.infos)]

    def wanted(self, state: State) -> set[Revision]:
        """Who must run: everyone in the record, and who serves until the new champion can."""
        named = {bare(revision) for revision in (state.champion, state.challenger, state.previous) if revision}
        needed = state.champion is not None and not self.fleet.ready(bare(state.champion))
        return named | ({self._serving} if self._serving and needed else set())

    def missing(self, wanted: set[Revision]) -> bool:
        """Whether the folder of a wanted model is not here."""
        return not all(self._model_folder(revision).is_dir() for revision in wanted)

    def describe(self) -> dict[str, object]:
        """What really serves, for state.json."""
        serving = self.gateway.alive()
        observed = self.observed if serving else Split()
        return {
            "serving": serving,
            "generation": self.generation if serving else -1,
            "champion": digest(observed.champion) if observed.champion_ports else None,
            "challenger": digest(observed.challenger) if observed.challenger_ports else None,
            "share": observed.share,
            "workers": self.fleet.infos,
            "restarts": self.fleet.restarts(),
        }

    def _apply(self, split: Split, generation: int) -> bool:
        try:
            self.gateway.sync(split)
            self._split, self.generation = split, generation
            self.observed = self.gateway.observe()
        except TokkaError as error:
            logger.warning(error.message)
            return False
        return True

    def _wanted_split(self, state: State) -> Split:
        champion, challenger = self._serving, bare(state.challenger) if state.challenger else None
        champions, challengers = self.fleet.answering(champion), self.fleet.answering(challenger)
        return Split(
            champion=key(champion) if champion else NOBODY,
            champion_ports=tuple(worker.port for worker in champions),
            challenger=key(challenger) if challenger else NOBODY,
            challenger_ports=tuple(worker.port for worker in challengers),
            champion_grpc_ports=tuple(worker.grpc_port for worker in champions if worker.grpc_port),
            challenger_grpc_ports=tuple(worker.grpc_port for worker in challengers if worker.grpc_port),
            share=state.share,
            rollout=state.rollout or NOBODY,
        )

    def _make_gateway(self) -> Gateway:
        serving = self._params.serving
        return Gateway(
            self._folder, port=self._settings.port, slots=serving.workers,
            max_body_bytes=serving.max_body_bytes, log=self._logs / "gateway.log", jobs=self._jobs,
            exposure=self._exposure, in_flight=2 * serving.batch, max_wait_ms=serving.max_wait_ms,
            supervisor=self._supervisor,
        )  # fmt: skip

    def _revive(self) -> None:
        if not self.gateway.alive() and self._is_due("gateway", REVIVE_SECONDS):
            logger.warning("the gateway died, it is started again")
            self.gateway.stop()
            try:
                self.gateway = self._make_gateway()
                self._split = Split()
            except (TokkaError, OSError) as error:
                logger.warning(str(error))

    def _end_strays(self) -> None:
        """Kill the workers that the last daemon had started and not told of yet: no request was sent to them."""
        if time.monotonic() - self._born > STRAY_SECONDS or not self._is_due("strays", STRAY_INTERVAL_SECONDS):
            return
        known = {info.pid for info in self.fleet.infos}
        for child in psutil.Process(self._supervisor).children():
            with contextlib.suppress(psutil.Error):
                if child.pid not in known and MODULE in child.cmdline():
                    process.send(child.pid, process.identity(child.pid), signal.SIGKILL)

    def _spawn(self, revision: Revision, ready_file: Path) -> DetachedProcess:
        serving, folder = self._params.serving, self._model_folder(revision)
        if not folder.is_dir():
            raise TokkaError(f"{folder} is missing: it is being fetched from the registry")
        options = WorkerOptions(
            model_dir=folder, ready_file=ready_file, name=self._params.registry.model, version=revision.version,
            digest=revision.digest, signed=True, requests=self._settings.home / "requests",
            store_text=self._params.monitoring.store_text, jobs=bool(self._jobs),
            stack_key=self._folder / STACK_KEY, **serving.to_workers,
        )  # fmt: skip
        return DetachedProcess.start(
            command(options), supervisor=self._supervisor, folder=self._folder, log=self._logs / "workers.log",
            environment={**os.environ, **self._settings.environment(), **ENVIRONMENT},
        )  # fmt: skip

    def _model_folder(self, revision: Revision) -> Path:
        return self._settings.home / "models" / revision.digest

    def _is_due(self, what: str, seconds: float) -> bool:
        if due := time.monotonic() - self._last[what] >= seconds:
            self._last[what] = time.monotonic()
        return due


def _served(last: StackInfo) -> Revision | None:
    """Who was behind the gateway as the champion."""
    return next((one.revision for one in last.workers if one.ready and one.digest == last.champion), None)
