"""What the daemon says about the stack, in state.json: who serves what, and with which processes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


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


class StackInfo(BaseModel):
    """The daemon's last word, in state.json; `pid` and `started` are its keeper's, whose end is the stack's.

    updated is in seconds since 1970, moment by this machine's clock that nobody sets.
    champion and challenger are digests, as HAProxy really splits; generation is the record's that is in force.
    serving is False until the gateway listens. problems are sentences for people.
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
