"""The files of a stack in TOKKA_HOME/stack: params.json, what it is told, and state.json, what its daemon says."""

import contextlib
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tokka import files
from tokka.deployment.record.state import Revision, State
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings

STATE, PARAMS = "state.json", "params.json"
# Role to version of what the record names and the registry has lost.
LOST = "lost.json"
# A state fills blocks of this size, so that a full disk can take the next one in the place of the last.
BLOCK_BYTES = 16 << 10
# One that is just being written over is read again so often.
READINGS, READING_SECONDS = 20, 0.005


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
    processes are pids and when they started. unlogged counts what the request log could not take, by its kind.
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
    unlogged: dict[str, int] = {}
    processes: dict[int, float] = {}

    @property
    def told(self) -> tuple[str, str, bool]:
        """What the stack was started with: another one means another stack."""
        return self.configuration, self.endpoint, self.authentication

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

    Raises TokkaError when somebody else holds it for longer than `timeout` seconds.
    """
    return files.locked(folder(settings) / f"{name}.lock", timeout)


def last_word(settings: Settings) -> StackInfo | None:
    """What a daemon of this home said last, whether it lives or not."""
    for _ in range(READINGS):
        try:
            return StackInfo.model_validate_json((folder(settings) / STATE).read_bytes())
        except ValidationError:
            time.sleep(READING_SECONDS)
        except OSError:
            break
    return None


def publish(settings: Settings, info: StackInfo) -> None:
    """Replace state.json; without a sync, since it describes processes that a crash of the machine ends too.

    Where the disk is full it is written over instead: its blocks are there. OSError when that fails too.
    """
    path, said = folder(settings) / STATE, info.model_dump_json().encode()
    content = said.ljust(-(-len(said) // BLOCK_BYTES) * BLOCK_BYTES)
    try:
        files.write_bytes(path, content, sync=False)
    except OSError:
        if not path.exists() or path.stat().st_size < len(content):
            raise
        with path.open("r+b", buffering=0) as file:
            file.write(content.ljust(path.stat().st_size))


def as_state(info: StackInfo) -> State:
    """What a daemon's last word tells of the record, for as long as that cannot be read."""
    known = {one.digest: one.revision for one in info.workers if one.state != "stopping"}
    champion = known.get(info.champion or "") or known.get(info.wanted_champion or "")
    challenger = known.get(info.challenger or "") if champion else None
    previous = next((one for one in known.values() if one not in (champion, challenger)), None)
    return State(
        endpoint=info.name, generation=max(info.generation, 0), champion=champion, challenger=challenger,
        previous=previous, share=info.share if challenger else 0.0, phase="step" if challenger else "idle",
    )  # fmt: skip


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


def lost_versions(settings: Settings) -> list[str]:
    """What the record names and the registry has lost, one sentence each."""
    path = folder(settings) / LOST
    try:
        found = files.read_json(path) if path.is_file() else {}
    except TokkaError:
        return []
    return [
        f"version {version} ({role}) was deleted in MLflow; its signed copy here goes on, and so does the next run"
        for role, version in found.items()
    ]


def read_params(settings: Settings) -> Params:
    """What the stack was told when it started; raises TokkaError when it never did."""
    return Params.model_validate(files.read_json(folder(settings) / PARAMS))
