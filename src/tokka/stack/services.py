"""What the daemon runs beside gateway and workers: one table that says what, when and how, and one loop that does it.

services = Services(table(settings, params, exposure), settings, environment, supervisor)
services.step(state, facts)           # again and again; never waits
services.pids, services.problems; services.stop()
"""

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokka.deployment.record.state import State
from tokka.errors import TokkaError
from tokka.gateway.exposure import Exposure
from tokka.gateway.gateway import HOST, require_free
from tokka.jobs.broker import require_known
from tokka.params import Params
from tokka.processes.child import Child
from tokka.processes.detached import DetachedProcess
from tokka.processes.process import BACKGROUND_NICENESS
from tokka.settings import Settings
from tokka.stack import state_file

logger = logging.getLogger("tokka.stack")

STOP_SECONDS = 5.0
PAGE_PORT_OFFSET = 10
AUTHORIZER_SOCKET = "authority.sock"
# The request log is sealed and its oldest part deleted so often, for the first time so long after the start.
ARCHIVE_SECONDS, FIRST_ARCHIVE_SECONDS = 600.0, 60.0
# What a completion lacks may be away for long (the registry), and each try imports for seconds.
DETAILS_RETRY_SECONDS = 60.0
# A service that lives for so long has no problem any more.
STABLE_SECONDS = 5.0


@dataclass(frozen=True)
class Facts:
    """What the daemon knows besides the record."""

    uptime_s: float = 0.0
    # Every wanted worker answers, or has had the time to.
    settled: bool = False
    # The record has not changed for some seconds.
    calm: bool = False
    # The owner of the rollout in the record has died.
    abandoned: bool = False
    # The folder of a wanted model is not here.
    missing: bool = False
    # There is a model registry.
    registered: bool = False
    # The last rollout left answers of both models that nobody has compared.
    unseen: bool = False
    # Details of an evaluation are to be measured, and no run goes on.
    incomplete: bool = False


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
    """Every service of a stack with these settings and params.

    Raises:
        UsageError: the broker's URL is none that is known.
    """
    folder, url = str(state_file.folder(settings)), broker(settings, params)
    if url:
        require_known(url)
    absent = {"mlflow": not has_own_page(settings), "authority": not exposure.authentication, "jobs": not url}
    rows = (
        Service("upkeep", _module("tokka.stack.sync_registry"), wants_upkeep, lifetime="stack"),
        Service("archive", _module("tokka.stack.archive_log"),
                lambda _, facts: facts.uptime_s > FIRST_ARCHIVE_SECONDS, retry_s=ARCHIVE_SECONDS),
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
                                  "mlflow.server.fastapi_app:app"),
                lambda _, facts: facts.registered and facts.settled, lifetime="stack", port=page_port(settings),
                environment=_page_environment(settings), problem="no MLflow page"),
        # While it is away, nobody new is let in.
        Service("authority", _module("tokka.gateway.authorizer", f"{folder}/{AUTHORIZER_SOCKET}"),
                lambda *_: True, retry_s=0.2, niceness=0),
        Service("jobs", _module("tokka.jobs.process", folder), lambda *_: True, retry_s=1.0, niceness=0,
                environment={"TOKKA_BROKER": url}, problem="asynchronous jobs"),
    )  # fmt: skip
    return tuple(row for row in rows if not absent.get(row.name))


def wants_upkeep(state: State, facts: Facts) -> bool:
    """Importing MLflow costs seconds of processor time: not beside a rollout that moves, unless a model is missing."""
    calm = facts.calm or state.phase == "idle"
    return facts.registered and (facts.missing or (facts.settled and calm and state.generation > 0))


def has_own_page(settings: Settings) -> bool:
    """Whether MLflow's page is served by this stack: only when the tracking store is a SQLite file here."""
    return settings.tracking_uri.startswith("sqlite:")


def page_url(settings: Settings) -> str:
    """Where people look at MLflow."""
    return f"http://{HOST}:{page_port(settings)}" if has_own_page(settings) else settings.tracking_uri


def page_port(settings: Settings) -> int:
    """The port of MLflow's page."""
    return settings.port + PAGE_PORT_OFFSET


def has_registry(settings: Settings) -> bool:
    """Whether there is a registry yet: its SQLite file is made by whoever writes to it first."""
    return not has_own_page(settings) or Path(settings.tracking_uri.removeprefix("sqlite:///")).is_file()


def broker(settings: Settings, params: Params) -> str:
    """The URL of the broker of asynchronous jobs; empty when there are none."""
    return settings.broker or params.serving.asynchronous.broker or ""


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name, *arguments)


def _page_environment(settings: Settings) -> dict[str, str]:
    artifacts = (settings.home / "artifacts").as_uri()
    return {
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
    """The services of a table, and the process of each.

    Args:
        environment: variables of every service.
        supervisor: with whom those of lifetime `stack` end.
    """

    def __init__(
        self, services: tuple[Service, ...], settings: Settings, environment: Mapping[str, str], supervisor: int
    ) -> None:
        self._environment, self._supervisor = environment, supervisor
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
        now = time.monotonic()
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
        try:
            if service.port:
                require_free(service.port)
            command = [part.replace("{rollout}", run.rollout or "") for part in service.command]
            run.process = self._launch(service, command)
        except (TokkaError, OSError) as error:
            run.problem = str(error)

    def _launch(self, service: Service, command: list[str]) -> Child | DetachedProcess:
        log, environment = self._logs / f"{service.name}.log", {**self._environment, **service.environment}
        if service.lifetime == "daemon":
            return Child.start(command, log=log, environment=environment, niceness=service.niceness)
        found = DetachedProcess.start(
            command, supervisor=self._supervisor, folder=self._folder, log=log, environment=environment,
            niceness=service.niceness,
        )  # fmt: skip
        found.remember(self._pid_file(service))
        return found
