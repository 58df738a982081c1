"""The daemon's life: read the record, bring workers and split in line with it, say what serves; ten times a second.

    Daemon(settings, params, keeper, log).run()         # returns after SIGTERM

It imports nothing heavy: what needs MLflow is done by children (see upkeep.py), which end with it. Gateway and workers
are its keeper's children: a successor takes them over as they serve (see keeper.py).
"""

import contextlib
import logging
import os
import signal
import socket
import time
from pathlib import Path
from types import FrameType

from tokka.deployment.reconcile import Silence, end_abandoned, is_abandoned
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision, State
from tokka.errors import TokkaError
from tokka.gateway.access_log import Receiver
from tokka.gateway.exposure import Access, reachable
from tokka.gateway.gateway import NOBODY, Gateway, Split
from tokka.gateway.live_traffic import LiveTraffic
from tokka.params import Params
from tokka.processes import process
from tokka.processes.detached import Ward
from tokka.request_log.log import Writer
from tokka.serving.options import WorkerOptions, command
from tokka.settings import Settings
from tokka.stack import stack, takeover
from tokka.stack import workers as fleets
from tokka.stack.admin import AdminServer
from tokka.stack.admin_data import Feed
from tokka.stack.companions import Companions
from tokka.stack.doorkeeper import Doorkeeper
from tokka.stack.jobs import JobsChild
from tokka.stack.services import Housekeeping
from tokka.stack.state_file import StackInfo, WorkerInfo
from tokka.stack.workers import Fleet

logger = logging.getLogger("tokka.deployment")

TICK_SECONDS = 0.1
SAY_SECONDS = 0.5
VERIFY_SECONDS = 1.0
SWEEP_SECONDS = 1.0
# How long a daemon looks for workers that the one before it was just starting when it was killed.
STRAY_SECONDS = 10.0
REVIVE_SECONDS = 1.0
# What needs MLflow costs seconds of processor time: the endpoint comes first, but they do not wait for ever.
PATIENCE_SECONDS = 20.0


class Daemon:
    """The only process that starts and ends the others.

    Args:
        keeper: the parent of this process, of the gateway and of the workers.
        log: where the gateway sends a line per request.
    """

    def __init__(self, settings: Settings, params: Params, keeper: int, log: socket.socket) -> None:
        self._settings, self._params = settings, params
        self._keeper, self._log_socket = keeper, log
        self._name = params.registry.model
        self._access = Access.of(settings, params.serving)
        self._folder, self._logs = settings.home / "stack", settings.home / "logs"
        self._environment = {**os.environ, **settings.environment()}
        self._state = State(endpoint=self._name)
        self._serving: Revision | None = None
        self._split = Split()
        self._observed = Split()
        self._generation, self._record_problem = -1, ""
        self._ending, self._silence, self._abandoned = False, Silence(), False
        self._born = time.monotonic()
        self._last = dict.fromkeys(("say", "verify", "sweep", "revive", "stray"), 0.0)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            TokkaError: the port is taken, or the gateway or the record cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        with contextlib.ExitStack() as cleanup:
            self._start(cleanup)
            while not self._ending:
                self._tick()
                time.sleep(TICK_SECONDS)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True

    def _start(self, cleanup: contextlib.ExitStack) -> None:
        """Start what does not depend on the record, and have it ended in reverse order."""
        last = takeover.last_word(self._settings, self._keeper)
        if last is None:
            stack.publish(self._settings, self._info())
        self._record = Record(self._settings.record_url)
        self._fleet = self._make_fleet(last)
        cleanup.callback(self._fleet.stop)
        live, writer = LiveTraffic(), Writer(self._settings.home / "requests", "gateway")
        self._receiver = Receiver(writer, live.observe, self._log_socket)
        cleanup.callback(self._receiver.close)
        self._jobs = JobsChild(self._settings, self._params, self._folder, self._logs, self._environment)
        cleanup.callback(self._jobs.stop)
        self._doorkeeper = Doorkeeper(self._settings, self._access, self._logs / "authority.log", self._environment)
        cleanup.callback(self._doorkeeper.stop)
        self._gateway = self._make_gateway()
        cleanup.callback(lambda: self._gateway.stop())
        self._house = Housekeeping(self._settings, self._logs, self._environment, self._keeper)
        cleanup.callback(self._house.stop)
        self._companions = Companions(self._settings, self._record, self._name, self._environment)
        cleanup.callback(self._companions.stop)
        self._feed = Feed(self._settings, self._record, live, self._jobs.metrics)
        self._admin = AdminServer(self._settings.admin_port, self._feed, self._settings.home)
        cleanup.callback(self._admin.stop)

    def _make_fleet(self, last: StackInfo | None) -> Fleet:
        inherited = takeover.workers(last) if last is not None else ()
        if last is not None:
            self._serving, self._generation = takeover.serving(last), last.generation
        count, folder = self._params.serving.workers, self._folder / "workers"
        return Fleet(self._spawn, count=count, folder=folder, inherited=inherited)

    def _end_strays(self) -> None:
        """Kill the workers that an earlier daemon has started and nobody looks after."""
        if time.monotonic() - self._born < STRAY_SECONDS and self._is_due("stray", SWEEP_SECONDS):
            for pid in takeover.strays(self._keeper, {worker.pid for worker in self._fleet.workers}):
                process.send(pid, process.identity(pid), signal.SIGKILL)

    def _make_gateway(self) -> Gateway:
        serving = self._params.serving
        return Gateway(
            self._folder, port=self._settings.port, log_port=self._receiver.port, slots=serving.workers,
            max_body_bytes=serving.max_body_bytes, log=self._logs / "gateway.log", jobs=self._jobs.socket,
            access=self._access, in_flight=2 * serving.batch, max_wait_ms=serving.max_wait_ms, guardian=self._keeper,
        )  # fmt: skip

    def _tick(self) -> None:
        self._read_record()
        self._revive()
        self._jobs.keep()
        self._doorkeeper.keep()
        wanted = self._wanted()
        self._end_strays()
        self._fleet.step(wanted)
        self._follow()
        self._keep_up(wanted)
        self._companions.step(self._state, abandoned=self._abandoned, calm=self._house.is_calm(self._state))
        if self._is_due("say", SAY_SECONDS):
            self._say()

    def _read_record(self) -> None:
        try:
            if self._is_due("sweep", SWEEP_SECONDS):
                silent_s = self._silence.seconds(self._record.last_heartbeat(self._name))
                end_abandoned(self._record, self._name, silent_s)
                self._abandoned = is_abandoned(self._record.read(self._name), silent_s)
            self._state = self._record.read(self._name)
            self._record_problem = ""
        except TokkaError as error:
            # What served goes on serving.
            self._record_problem = error.message

    def _revive(self) -> None:
        if not self._gateway.alive() and self._is_due("revive", REVIVE_SECONDS):
            logger.warning("the gateway died, it is started again")
            self._gateway.stop()
            try:
                self._gateway = self._make_gateway()
                self._split = Split()
            except (TokkaError, OSError) as error:
                logger.warning(str(error))

    def _wanted(self) -> set[Revision]:
        """Who must run: everyone in the record, and who serves until the new champion can."""
        state = self._state
        named = {fleets.bare(revision) for revision in (state.champion, state.challenger, state.previous) if revision}
        return named | ({self._serving} if self._serving and self._serving_is_needed() else set())

    def _serving_is_needed(self) -> bool:
        champion = self._state.champion
        return champion is not None and not self._fleet.ready(fleets.bare(champion))

    def _spawn(self, revision: Revision, ready_file: Path) -> int:
        serving, folder = self._params.serving, self._settings.home / "models" / revision.digest
        if not folder.is_dir():
            raise TokkaError(f"{folder} is missing: it is being fetched from the registry")
        options = WorkerOptions(
            model_dir=folder, ready_file=ready_file, name=self._name, version=revision.version, digest=revision.digest,
            signed=True, requests=self._settings.home / "requests", batch=serving.batch,
            max_delay_ms=serving.max_delay_ms, max_body_bytes=serving.max_body_bytes, max_rows=serving.max_rows,
            max_tokens=serving.max_tokens, store_text=self._params.monitoring.store_text, jobs=bool(self._jobs.socket),
        )  # fmt: skip
        return Ward.start(
            command(options), guardian=self._keeper, folder=self._folder, log=self._logs / "workers.log",
            environment={**self._environment, **process.SINGLE_THREAD},
        ).pid  # fmt: skip

    def _follow(self) -> None:
        """Set the split that the record wants, as far as the workers for it are ready."""
        champion = fleets.bare(self._state.champion) if self._state.champion else None
        if champion is None or self._fleet.ready(champion):
            self._serving = champion
        challenger = fleets.bare(self._state.challenger) if self._state.challenger else None
        split = Split(
            champion=fleets.key(self._serving) if self._serving else NOBODY,
            champion_ports=tuple(worker.port for worker in self._fleet.ready(self._serving)),
            challenger=fleets.key(challenger) if challenger else NOBODY,
            challenger_ports=tuple(worker.port for worker in self._fleet.ready(challenger)),
            champion_grpc_ports=tuple(one.grpc_port for one in self._fleet.ready(self._serving) if one.grpc_port),
            challenger_grpc_ports=tuple(one.grpc_port for one in self._fleet.ready(challenger) if one.grpc_port),
            share=self._state.share,
        )
        in_force = self._state.generation if self._serving == champion else self._generation
        if split == self._split and in_force == self._generation and not self._is_due("verify", VERIFY_SECONDS):
            return
        try:
            self._gateway.sync(split)
            changed = split != self._split or in_force != self._generation
            self._split, self._generation = split, in_force
            self._observed = self._gateway.observe()
        except TokkaError as error:
            logger.warning(error.message)
            return
        if changed:
            self._say()

    def _keep_up(self, wanted: set[Revision]) -> None:
        """What comes once the endpoint has what it needs: aliases, missing model folders, the page."""
        missing = not all((self._settings.home / "models" / one.digest).is_dir() for one in wanted)
        ready = all(self._fleet.ready(revision) for revision in wanted)
        settled = ready or time.monotonic() - self._born > PATIENCE_SECONDS
        self._house.step(self._state, missing=missing, settled=settled)

    def _say(self) -> None:
        info = self._info(serving=self._gateway.alive())
        try:
            stack.publish(self._settings, info)
        except OSError as error:
            # A full disk must not end what serves; who asks for the state sees that it is old.
            logger.warning(f"the state cannot be written: {error}")
        self._feed.tell(info, self._state)
        self._last["say"] = time.monotonic()

    def _info(self, serving: bool = False) -> StackInfo:
        info = StackInfo(
            pid=self._keeper, started=process.identity(self._keeper), daemon=os.getpid(), updated=time.time(),
            moment=time.monotonic(), name=self._name, endpoint=stack.endpoint(self._settings),
            configuration=stack.configuration(self._params),
            grpc_endpoint=f"{reachable(self._access.host)}:{self._access.grpc_port}",
            authentication=self._access.authentication,
        )  # fmt: skip
        return info.model_copy(update=self._details()) if serving else info

    def _details(self) -> dict[str, object]:
        observed, wanted = self._observed, self._wanted()
        beside = [*self._house.pids, *self._jobs.pids, *self._companions.pids, *self._doorkeeper.pids]
        children = [os.getpid(), *self._gateway.pids, *beside]
        processes = {pid: process.identity(pid) for pid in children}
        workers = [WorkerInfo.model_validate(worker.describe()) for worker in self._fleet.workers]
        record = [self._record_problem] if self._record_problem else []
        return {
            "serving": True,
            "mlflow": self._house.page.url,
            "admin": self._admin.url,
            "admin_problem": self._admin.problem,
            "generation": self._generation,
            "champion": fleets.digest(observed.champion) if observed.champion_ports else None,
            "challenger": fleets.digest(observed.challenger) if observed.challenger_ports else None,
            "share": observed.share,
            "wanted_champion": self._state.champion.digest if self._state.champion else None,
            "workers": tuple(workers),
            "restarts": self._fleet.restarts(),
            "problems": (*record, *self._fleet.problems(wanted), *self._house.page.problems, *self._jobs.problems),
            "processes": {**processes, **{worker.pid: worker.started for worker in workers}},
        }

    def _is_due(self, what: str, seconds: float) -> bool:
        if due := time.monotonic() - self._last[what] >= seconds:
            self._last[what] = time.monotonic()
        return due
