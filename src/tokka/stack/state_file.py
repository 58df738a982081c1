"""The files of a stack in TOKKA_HOME/stack: params.json, what it is told, and state.json, what its daemon says.

publish(settings, info)                # by the daemon
info = last_word(settings)             # by anybody; None when there is none
"""

import contextlib
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tokka import files
from tokka.deployment.record.state import Revision
from tokka.params import Params
from tokka.settings import Settings

STATE, PARAMS = "state.json", "params.json"


class WorkerInfo(BaseModel):
    """One worker process."""

    model_config = ConfigDict(frozen=True)

    version: str
    digest: str
    pid: int
    started: float
    state: Literal["starting", "ready", "stopping"]
    port: int = 0
    grpc_port: int | None = None
    seconds: float = 0.0
    ready_file: str = ""

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.state == "ready"

    @property
    def revision(self) -> Revision:
        """What it serves."""
        return Revision(version=self.version, digest=self.digest)


class StackInfo(BaseModel):
    """What the daemon said last; `pid` and `started` are its supervisor's, whose end is the stack's.

    updated is in seconds since 1970, moment in seconds of the machine's monotonic clock.
    champion and challenger are digests, share in [0, 1], as HAProxy really splits; generation is the record's that is
    in force. serving is False until the gateway listens. problems are sentences for people.
    processes are pids and when they started.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float
    updated: float
    moment: float = 0.0
    daemon: int = 0
    name: str
    endpoint: str
    grpc_endpoint: str = ""
    authentication: bool = False
    mlflow: str = ""
    admin: str = ""
    admin_problem: str = ""
    configuration: str = ""
    serving: bool = False
    generation: int = -1
    champion: str | None = None
    challenger: str | None = None
    share: float = 0.0
    wanted_champion: str | None = None
    workers: tuple[WorkerInfo, ...] = ()
    restarts: int = 0
    problems: tuple[str, ...] = ()
    processes: dict[int, float] = {}

    @property
    def settled(self) -> bool:
        """Whether the gateway listens, and the champion that the record wants answers (or cannot, and says why)."""
        return self.serving and (self.champion == self.wanted_champion or bool(self.problems))

    @property
    def silent_s(self) -> float:
        """For how many seconds the daemon has said nothing."""
        return time.monotonic() - self.moment


def folder(settings: Settings) -> Path:
    """Where the stack's files and sockets lie."""
    return settings.home / "stack"


def held(settings: Settings, name: str, timeout: float) -> contextlib.AbstractContextManager[None]:
    """One holder at a time: `start` for whoever starts or ends the stack, `daemon` for the supervisor.

    Raises:
        TokkaError: somebody else holds it for longer than `timeout` seconds.
    """
    return files.locked(folder(settings) / f"{name}.lock", timeout)


def last_word(settings: Settings) -> StackInfo | None:
    """What a daemon of this home said last, whether it lives or not."""
    try:
        return StackInfo.model_validate_json((folder(settings) / STATE).read_bytes())
    except (OSError, ValidationError):
        return None


def publish(settings: Settings, info: StackInfo) -> None:
    """Replace state.json; without a sync, since it describes processes that a crash of the machine ends too."""
    files.write_bytes(folder(settings) / STATE, info.model_dump_json().encode(), sync=False)


def forget(settings: Settings) -> None:
    """Delete state.json."""
    (folder(settings) / STATE).unlink(missing_ok=True)


def configuration(params: Params) -> str:
    """A digest of what the daemon needs to know of params: another one means another stack."""
    known = [params.registry.model, params.serving.model_dump(mode="json"), params.monitoring.store_text]
    return files.digest_json(known)[:16]


def write_params(settings: Settings, params: Params) -> None:
    """Write down what the stack is told."""
    files.write_json(folder(settings) / PARAMS, params.model_dump(mode="json"))


def read_params(settings: Settings) -> Params:
    """What the stack was told when it started.

    Raises:
        TokkaError: it never started.
    """
    return Params.model_validate(files.read_json(folder(settings) / PARAMS))
