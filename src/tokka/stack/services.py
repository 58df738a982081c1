"""What the daemon runs beside gateway and workers: one table says what, when and how, and one loop does it."""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokka.deployment.record.state import State
from tokka.deployment.review import webhook
from tokka.errors import TokkaError
from tokka.gateway.exposure import Exposure
from tokka.gateway.gateway import HOST, require_free
from tokka.jobs.broker import require_known
from tokka.params import Params
from tokka.processes.child import Child
from tokka.processes.detached import DetachedProcess
from tokka.processes.page_password import password_file
from tokka.processes.process import BACKGROUND_NICENESS
from tokka.settings import PAGE_PORT_OFFSET, Settings
from tokka.stack import state_file

logger = logging.getLogger("tokka.stack")

STOP_SECONDS = 5.0
AUTHORIZER_SOCKET = "authority.sock"
# The request log is sealed and its oldest part deleted so often at most.
ARCHIVE_SECONDS = 600.0
# A sender ends when nothing is due: this is how late the next notification is at most.
NOTIFY_SECONDS = 2.0
# What a completion lacks may be away for long (the registry), and each try imports for seconds.
DETAILS_RETRY_SECONDS = 60.0
# A service that lives for so long has no problem any more.
STABLE_SECONDS = 5.0


@dataclass(frozen=True)
class Facts:
    """What the daemon knows besides the record.

    Args:
        settled: every wanted worker answers, or has had the time to.
        calm: the record has not changed for some seconds.
        abandoned: the owner of the rollout in the record has died.
        missing: the folder of a wanted model is not here.
        registered: there is a model registry.
        unseen: the last rollout left answers of both models that nobody has compared.
        incomplete: details of an evaluation are to be measured, and no run goes on.
        untidy: segments of the request log are to be sealed or deleted.
        untold: a notification is to be sent.
    """

    settled: bool = False
    calm: bool = False
    abandoned: bool = False
    missing: bool = False
    registered: bool = False
    unseen: bool = False
    incomplete: bool = False
    untidy: bool = False
    untold: bool = False


@dataclass(frozen=True, eq=False)
class Service:
    """One program that runs at most once at a time.

    Args:
        name: of its log, its pid file, and in messages.
        command: `{rollout}` in it stands for the record's rollout.
        wanted: whether to start it when it does not run; one that runs goes on, unless `interrupted`.
        retry_s: least time in seconds from one start to the next.
        once: start it only once per rollout.
        niceness: 0 for what users wait for.
        lifetime: `daemon` ends with the daemon, `stack` with the supervisor, and the daemon's successor takes it over.
        environment: variables of its own.
        port: on loopback; must be free before the start.
        interrupted: whether it is killed when it is not wanted any more.
        problem: what a failure costs, for the stack's problems; empty when it costs users nothing.
    """

    name: str
    command: tuple[str, ...]
    wanted: Callable[[State, Facts], bool]
    retry_s: float = 10.0
    once: bool = False
    niceness: int = BACKGROUND_NICENESS
    lifetime: Literal["daemon", "stack"] = "daemon"
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    problem: str = ""
    interrupted: bool = False


def table(settings: Settings, params: Params, exposure: Exposure) -> tuple[Service, ...]:
    """Every service of a stack with these settings and params; raises UsageError for a broker of no known kind."""
    folder, url = str(state_file.folder(settings)), broker(settings, params)
    if url:
        require_known(url)
    # Every account of this machine reaches loopback; what they write there would be shown as ours.
    password = password_file(settings.home) if settings.has_own_page else ""
    absent = {"mlflow": not settings.has_own_page, "authority": not exposure.authentication, "jobs": not url,
              "notify": not params.notifications.receivers,
              "triggers": params.triggers.worker != "stack"}  # fmt: skip
    rows = (
        Service("upkeep", _module("tokka.stack.sync_registry"),
                lambda state, facts: wants_upkeep(state, facts, reviewed=params.registry.review == "required"),
                lifetime="stack",
                environment=webhook.environment(settings) if settings.has_own_page else {}),
        Service("archive", _module("tokka.stack.archive_log"), lambda _, facts: facts.untidy,
                retry_s=ARCHIVE_SECONDS),
        Service("notify", _module("tokka.notifications.delivery", folder), lambda _, facts: facts.untold,
                retry_s=NOTIFY_SECONDS, problem="notifications wait"),
        Service("rollout-view", _module("tokka.monitoring.rollout_view", "{rollout}"),
                lambda _, facts: facts.calm and facts.unseen, once=True),
        Service("drive", _module("tokka.stack.drive"),
                lambda state, facts: state.phase == "ab" or (state.phase == "watch" and facts.abandoned),
                retry_s=1.0, niceness=0),
        # It takes all the processor time that is left: beside no rollout and no run, and it goes on later.
        Service("details", _module("tokka.steps.complete_evaluation"),
                lambda state, facts: facts.incomplete and facts.calm and state.phase in ("idle", "ab"),
                retry_s=DETAILS_RETRY_SECONDS, niceness=19, interrupted=True),
        # Run as MLflow's own launcher runs it, whose child nothing would end when the stack is killed.
        Service("mlflow", _module("tokka.processes.web_server", HOST, str(page_port(settings)),
                                  "mlflow.server.fastapi_app:app", str(password)),
                lambda _, facts: facts.registered and facts.settled, lifetime="stack", port=page_port(settings),
                environment=_page_environment(settings), problem="no MLflow page"),
        # While it is away, nobody new is let in.
        Service("authority", _module("tokka.gateway.authorizer", f"{folder}/{AUTHORIZER_SOCKET}"),
                lambda *_: True, retry_s=0.2, niceness=0),
        Service("jobs", _module("tokka.jobs.process", folder), lambda *_: True, retry_s=1.0, niceness=0,
                environment={"TOKKA_BROKER": url}, problem="asynchronous jobs"),
        Service("triggers", _module("tokka.triggers.worker"), lambda _, facts: facts.settled, retry_s=5.0,
                problem="git pushes are not taken"),
    )  # fmt: skip
    return tuple(row for row in rows if not absent.get(row.name))


def wants_upkeep(state: State, facts: Facts, *, reviewed: bool) -> bool:
    """Importing MLflow costs seconds of processor time: not beside a rollout that moves, unless a model is missing.

    Before anything serves it is wanted where versions are `reviewed`: the first one waits for its approval as well.
    """
    calm = facts.calm or state.phase == "idle"
    return facts.registered and (facts.missing or (facts.settled and calm and (reviewed or state.generation > 0)))


def page_port(settings: Settings) -> int:
    """The port of MLflow's page."""
    return settings.port + PAGE_PORT_OFFSET


def has_registry(settings: Settings) -> bool:
    """Whether there is a registry yet: its SQLite file is made by whoever writes to it first."""
    return not settings.has_own_page or Path(settings.tracking_uri.removeprefix("sqlite:///")).is_file()


def broker(settings: Settings, params: Params) -> str:
    """The URL of the broker of asynchronous jobs; empty when there are none."""
    return settings.broker or params.serving.asynchronous.broker or ""


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name, *arguments)


def _page_environment(settings: Settings) -> dict[str, str]:
    artifacts = (settings.home / "artifacts").as_uri()
    return webhook.environment(settings) | {
        "_MLFLOW_SERVER_FILE_STORE": settings.tracking_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


@dataclass
class Run:
    """What became of a service: its process, its last start (monotonic clock, rollout), its problem."""

    process: Child | DetachedProcess | None = None
    started: float = -math.inf
    rollout: str | None = None
    problem: str = ""

    def end(self, number: int) -> None:
        """Send the process a signal and wait for its end."""
        if self.process is not None:
            self.process.stop(number, STOP_SECONDS)
            self.process = None


def is_due(service: Service, run: Run, state: State, facts: Facts, now: float) -> bool:
    """Whether to start a service now."""
    too_soon = now - run.started < service.retry_s or (service.once and run.rollout == state.rollout)
    return run.process is None and not too_soon and service.wanted(state, facts)


class Services:
    """The services of a table, and the process of each; those of lifetime `stack` end with the supervisor."""

    def __init__(
        self, services: tuple[Service, ...], settings: Settings, supervisor: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._environment, self._supervisor = {**os.environ, **settings.environment()}, supervisor
        self._clock = clock
        self._folder, self._logs = state_file.folder(settings), settings.home / "logs"
        self._runs = {one: Run(DetachedProcess.recall(self._pid_file(one), supervisor)) for one in services}

    @property
    def pids(self) -> list[int]:
        """The running processes."""
        return [run.process.pid for run in self._runs.values() if run.process is not None]

    @property
    def problems(self) -> list[str]:
        """What does not work, one sentence each."""
        return [f"{one.problem}: {run.problem}" for one, run in self._runs.items() if one.problem and run.problem]

    def step(self, state: State, facts: Facts) -> None:
        """Notice which ended, and start those that are due."""
        now = self._clock()
        for service, run in self._runs.items():
            if run.process is not None and (code := run.process.poll()) is not None:
                run.process = None
                run.problem = f"the process ended with code {code}: see logs/{service.name}.log" if code else ""
            if service.interrupted and not service.wanted(state, facts):
                run.end(signal.SIGKILL)
            if is_due(service, run, state, facts, now):
                run.started, run.rollout = now, state.rollout
                self._start(service, run)
            if run.process is not None and now - run.started > STABLE_SECONDS:
                run.problem = ""

    def stop(self) -> None:
        """End them all and wait for them."""
        for run in self._runs.values():
            run.end(signal.SIGTERM)

    def _pid_file(self, service: Service) -> Path:
        return self._folder / f"{service.name}.pid.json"

    def _start(self, service: Service, run: Run) -> None:
        log, environment = self._logs / f"{service.name}.log", {**self._environment, **service.environment}
        command = [part.replace("{rollout}", run.rollout or "") for part in service.command]
        try:
            if service.port:
                require_free(service.port)
            if service.lifetime == "daemon":
                run.process = Child(command, log=log, environment=environment, niceness=service.niceness)
                return
            run.process = found = DetachedProcess.start(
                command, supervisor=self._supervisor, folder=self._folder, log=log, environment=environment,
                niceness=service.niceness,
            )  # fmt: skip
            self._remember(service, found)
        except (TokkaError, OSError) as error:
            run.problem = str(error)

    def _remember(self, service: Service, found: DetachedProcess) -> None:
        """Or end it: a successor of this daemon would not know it, and start another one beside it."""
        try:
            found.remember(self._pid_file(service))
        except OSError:
            found.stop(signal.SIGKILL, STOP_SECONDS)
            raise
