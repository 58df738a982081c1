"""The daemon's life: read the record, bring gateway and workers in line with it, run the services, say what serves.

It looks ten times a second while something moves. Else it sleeps until somebody writes to the record, a process ends,
or a second is over.

    python -m tokka.stack.daemon         # what ensure_up starts: the supervisor, and the daemon as its child

It imports nothing heavy: what needs MLflow is done by services.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from types import FrameType

from tokka import files, pending
from tokka.database import Commits
from tokka.deployment import rollout_files
from tokka.deployment.reconcile import Silence, end_abandoned, is_abandoned
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.errors import TokkaError
from tokka.gateway.access_log import Receiver, listen
from tokka.gateway.api_keys import OWN_SECRET, KeyStore
from tokka.gateway.exposure import Exposure, endpoint, reachable
from tokka.gateway.live_traffic import LiveTraffic
from tokka.jobs.metrics import JobMetrics
from tokka.notifications.due import Due
from tokka.params import Params
from tokka.processes import json_log, process
from tokka.processes.exit_watch import ExitWatch
from tokka.processes.parts import Parts
from tokka.processes.stack_key import StackKey
from tokka.processes.supervisor import supervise
from tokka.request_log.log import Writer
from tokka.request_log.parquet import is_due
from tokka.request_log.segments import GIGABYTE
from tokka.settings import Settings
from tokka.stack import services, state_file
from tokka.stack.admin import AdminServer
from tokka.stack.admin_data import AdminData
from tokka.stack.reconciler import Reconciler
from tokka.stack.services import Facts, Services
from tokka.stack.stack import status
from tokka.stack.state_file import StackInfo

logger = logging.getLogger("tokka.stack")

# From one look to the next: while something moves; while a rollout waits, or a record that cannot be watched; else.
BUSY_SECONDS, ROLLOUT_SECONDS, IDLE_SECONDS = 0.1, 0.5, 1.0
# How soon a change of the record is noticed.
WATCH_SECONDS = 0.25
# What counts as moving does so for a while longer.
LINGER_SECONDS = 1.0
# The state is written so often at least, while idle and while not.
PUBLISH_IDLE_SECONDS, PUBLISH_SECONDS = 4.0, 0.5
SWEEP_SECONDS = 1.0
# The record is read so often even if nobody seems to have written to it.
READ_SECONDS = 10.0
# What needs MLflow costs seconds of processor time: it waits for the endpoint, but not longer than this.
PATIENCE_SECONDS = 20.0
# How often the request log is looked at for something to seal or delete.
TIDY_SECONDS = 60.0
# A receiver that was away is tried again so late, at most.
TOLD_SECONDS = 2.0
# The record is calm when it has not changed for so long.
CALM_SECONDS = 5.0


class Daemon:
    """The only process that starts and ends the others; the gateway sends a line per request to the socket `log`."""

    def __init__(self, settings: Settings, params: Params, supervisor: int, log: socket.socket) -> None:
        self._settings, self._params = settings, params
        self._supervisor, self._log = supervisor, log
        self._name = params.registry.model
        self._exposure = Exposure.of(settings, params.serving)
        self._record = Record(settings.record_url, later=True)
        self._due = Due(settings, params.notifications)
        self._last_word = last = status(settings)
        self._state = state_file.as_state(last) if last else State(endpoint=self._name)
        self._serves, self._record_problem, self._parts = self._last_word is not None, "", Parts()
        self._silence, self._abandoned, self._ending, self._ended = Silence(), False, False, False
        self._commits, self._exits = Commits(settings.record_url), ExitWatch()
        self._born = self._changed = self._moved = time.monotonic()
        self._last = dict.fromkeys(("publish", "sweep", "read"), 0.0) | {"tidy": self._born, "told": self._born}
        self._untidy = self._untold = self._written = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises TokkaError when the port, gateway or record cannot be used.

        What serves is ended by a signal, and by a start that fails where nothing served before; by nothing else.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        with contextlib.ExitStack() as cleanup:
            try:
                self._start(cleanup)
                self._serves = True
                while not self._ending:
                    self._tick()
                    self._wait()
            except BaseException:
                if self._serves:
                    cleanup.pop_all()
                raise

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True

    def _start(self, cleanup: contextlib.ExitStack) -> None:
        """Start what does not depend on the record, and have it ended in reverse order."""
        settings, params = self._settings, self._params
        if not self._serves:
            state_file.publish(settings, self._info())
            # A record that cannot be used is told to whoever starts the stack; later on it is a problem that passes.
            self._record.read(self._name)
            self._renew_key()
        live, writer = LiveTraffic(), Writer(settings.home / "requests", "gateway")
        receiver = Receiver(writer, self._log, live.observe)
        cleanup.callback(receiver.close)
        self._receiver = receiver
        self._reconciler = Reconciler(settings, params, self._exposure, self._supervisor)
        cleanup.callback(self._reconciler.fleet.stop)
        self._services = Services(services.table(settings, params, self._exposure), settings, self._supervisor)
        cleanup.callback(self._services.stop)
        cleanup.callback(lambda: self._reconciler.gateway.stop())
        if services.broker(settings, params):
            live.registry.register(JobMetrics(settings.jobs_url, self._name))
        self._data = AdminData(settings, self._record, live)
        self._admin = AdminServer(settings.admin_port, self._data, settings.home)
        cleanup.callback(self._admin.stop)

    def _renew_key(self) -> None:
        folder = state_file.folder(self._settings)
        (folder / OWN_SECRET).unlink(missing_ok=True)
        if self._exposure.authentication:
            KeyStore(self._settings.home).renew_internal_key(folder)
        else:
            files.write_bytes(folder / OWN_SECRET, StackKey.of(folder).own.encode(), mode=0o600)

    def _tick(self) -> None:
        self._parts.attempt("the record", self._read_record, None)
        step, calm = self._reconciler.step, not (self._is_busy() or self._ended)
        changed = self._parts.attempt("the gateway", lambda: step(self._state, calm=calm), False)
        if changed or not self._reconciler.is_calm(self._state):
            self._moved = time.monotonic()
        self._parts.attempt("the services", lambda: self._services.step(self._state, self._facts()), None)
        if changed or self._is_due("publish", PUBLISH_SECONDS if self._is_busy() else PUBLISH_IDLE_SECONDS):
            self._publish()

    def _is_busy(self) -> bool:
        return self._state.phase != "idle" or time.monotonic() - self._moved < LINGER_SECONDS

    def _wait(self) -> None:
        """Until the next look is due, the record was written, a process has ended, or this one is to end."""
        if time.monotonic() - self._moved < LINGER_SECONDS:
            seconds = BUSY_SECONDS
        else:
            seconds = IDLE_SECONDS if self._commits.is_watchable and self._state.phase == "idle" else ROLLOUT_SECONDS
        until = time.monotonic() + seconds
        pids = {*self._reconciler.pids, *self._services.pids}
        while True:
            self._ended = self._exits.wait(pids, min(seconds, WATCH_SECONDS))
            self._moved = time.monotonic() if self._ended else self._moved
            if self._ended or self._ending or self._commits.seen() or time.monotonic() > until:
                return

    def _read_record(self) -> None:
        """Read it if it may have changed; what served goes on serving when it cannot be read."""
        due = self._is_due("read", READ_SECONDS if self._state.phase == "idle" else SWEEP_SECONDS)
        if not (due or self._commits.seen() or not self._commits.is_watchable):
            return
        self._commits.mark()
        self._written = True
        try:
            state = self._sweep(self._record.read(self._name))
        except TokkaError as error:
            self._record_problem, self._last["read"] = error.message, 0.0
            return
        if state.generation != self._state.generation:
            self._changed = self._moved = time.monotonic()
        self._state, self._record_problem = state, ""

    def _sweep(self, state: State) -> State:
        """The record, once a rollout that nobody drives was ended."""
        if state.phase == "idle":
            self._abandoned = False
        elif self._is_due("sweep", SWEEP_SECONDS):
            silent_s = self._silence.seconds(self._record.last_heartbeat(self._name))
            state = end_abandoned(self._record, self._name, silent_s) or state
            self._abandoned = is_abandoned(state, silent_s)
        return state

    def _facts(self) -> Facts:
        now, wanted = time.monotonic(), self._reconciler.wanted(self._state)
        ready = all(self._reconciler.fleet.ready(revision) for revision in wanted)
        return Facts(
            settled=ready or now - self._born > PATIENCE_SECONDS,
            calm=now - self._changed > CALM_SECONDS,
            abandoned=self._abandoned,
            missing=self._reconciler.missing(wanted),
            registered=services.has_registry(self._settings),
            unseen=rollout_files.has_unseen_answers(self._settings.home, self._state),
            incomplete=pending.is_time(self._settings.home),
            untidy=self._is_untidy(),
            untold=self._is_untold(),
        )

    def _is_untidy(self) -> bool:
        """Looked up now and then: the folder may hold thousands of files, and the service imports for long."""
        if self._is_due("tidy", TIDY_SECONDS):
            folder, kept = self._settings.home / "requests", self._params.monitoring
            self._untidy = is_due(folder, time.time(), kept.retention_days, kept.retention_gb * GIGABYTE)
        return self._untidy

    def _is_untold(self) -> bool:
        """Whether a receiver has something to be told; asked again when somebody wrote, or a receiver may be back."""
        receivers = self._params.notifications.receivers
        if receivers and (self._written or self._is_due("told", TOLD_SECONDS)):
            self._written = False
            self._untold = self._due.look()
        return self._untold

    def _publish(self) -> None:
        info = self._info().model_copy(update=self._details())
        try:
            state_file.publish(self._settings, info)
        except OSError as error:
            # A full disk must not end what serves; readers of the state see that it is old.
            logger.warning(f"the state cannot be written: {error}")
        self._data.tell(info, self._state)
        self._last["publish"] = time.monotonic()

    def _info(self) -> StackInfo:
        return StackInfo(
            pid=self._supervisor, started=process.identity(self._supervisor), daemon=os.getpid(), updated=time.time(),
            moment=time.monotonic(), name=self._name, endpoint=endpoint(self._settings),
            configuration=state_file.configuration(self._params),
            grpc_endpoint=f"{reachable(self._exposure.host)}:{self._exposure.grpc_port}",
            authentication=self._exposure.authentication,
        )  # fmt: skip

    def _details(self) -> dict[str, object]:
        state, reconciler, admin = self._state, self._reconciler, self._admin
        own = (self._record_problem, self._due.problem, self._receiver.problem, *self._parts.problems)
        workers = reconciler.fleet.problems(reconciler.wanted(state))
        return {
            **reconciler.describe(),
            "mlflow": self._settings.page,
            "admin": admin.url,
            "admin_problem": admin.problem,
            "wanted_champion": state.champion.digest if state.champion else None,
            "unlogged": self._unlogged(),
            "problems": (
                *filter(None, own),
                *workers,
                *self._services.problems,
                *state_file.lost_versions(self._settings),
            ),
            "processes": {pid: process.identity(pid) for pid in (os.getpid(), *reconciler.pids, *self._services.pids)},
        }

    def _unlogged(self) -> dict[str, int]:
        lost = (self._last_word.unlogged if self._last_word else {}).get("requests", 0) + self._receiver.lost
        return {"requests": lost, "predictions": self._reconciler.fleet.unlogged()}

    def _is_due(self, what: str, seconds: float) -> bool:
        if due := time.monotonic() - self._last[what] >= seconds:
            self._last[what] = time.monotonic()
        return due


def main() -> int:
    """Become the supervisor and its child, the daemon; the starter's own process returns at once."""
    json_log.start("daemon")
    settings = Settings.from_environment()
    params = state_file.read_params(settings)

    def daemon(supervisor: int) -> int:
        try:
            Daemon(settings, params, supervisor, log).run()
        except TokkaError as error:
            logger.error(error.message, extra={"hint": error.hint})
            return error.exit_code
        return 0

    if os.fork():
        os._exit(0)
    os.setsid()
    with state_file.held(settings, "daemon", 5.0), listen(state_file.folder(settings)) as log:
        return supervise("daemon", daemon)


if __name__ == "__main__":
    sys.exit(main())
