"""How the machines of a training find each other and talk: keys in a store of torch's that the first one serves.

| Key            | Says                                                                     | Written by      |
|----------------|--------------------------------------------------------------------------|-----------------|
| N/group        | start the ranks of the N-th group: specification, work folder, port      | the first node  |
| N/ready/NODE   | the ranks of a node are about to join it                                 | that node       |
| N/ended/NODE   | one of its ranks has failed: why                                         | that node       |
| N/end          | the ranks of the group are to be ended                                   | the first node  |
| over           | there are no more groups, and with which exit code to end                | the first node  |
| gone/NODE      | a node has read that                                                     | that node       |

Whoever asks while the first machine is gone gets a RuntimeError.
"""

import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not exported for mypy

from tokka import progress
from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject
from tokka.training.fit.ddp import HOST, JOIN_SECONDS, GroupBroken
from tokka.training.fit.out_of_memory import OutOfMemory
from tokka.training.nodes.exchange import Exchange

LOOK_S, CONNECT_S, LEAVE_S = 0.1, 20.0, 20.0
VARIABLES = ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
KINDS: dict[str, type[TokkaError]] = {one.__name__: one for one in (TokkaError, OutOfMemory, GroupBroken)}


class Place(NamedTuple):
    """Which of how many machines this one is, and where the first one's store is."""

    nodes: int
    node: int
    host: str
    port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Place":
        """As torchrun and Kubeflow Trainer give it. UsageError when something is missing."""
        if missing := [name for name in VARIABLES if not environment.get(name)]:
            raise UsageError(f"{missing[0]} is not set", "Kubeflow Trainer's torch policy sets it: mlPolicy.torch")
        nodes, node, host, port = (environment[name] for name in VARIABLES)
        try:
            return cls(int(nodes), int(node), host, int(port))
        except ValueError:
            raise UsageError(f"PET_ variables that are no numbers: {nodes}, {node}, {port}", "set them") from None


def serve(place: Place) -> TCPStore:
    """The store, in the first machine's process; it lasts as long as that."""
    wait = timedelta(seconds=CONNECT_S)
    return TCPStore(HOST, place.port, is_master=True, wait_for_workers=False, timeout=wait)


def connect(place: Place) -> TCPStore:
    """The store, from another machine: waited for until it is there, since machines start when they can."""
    while True:
        try:
            wait = timedelta(seconds=CONNECT_S)
            return TCPStore(place.host, place.port, is_master=False, wait_for_workers=False, timeout=wait)
        except RuntimeError:
            progress.report("finetune", f"waiting for the first machine, {place.host}:{place.port}")
            time.sleep(1.0)


class FirstNode:
    """The first machine's side: `OtherNodes` of its training."""

    def __init__(self, store: TCPStore, nodes: int, exchange: Exchange) -> None:
        self._store, self._exchange, self._nodes = store, exchange, range(1, nodes)
        self._group = 0

    def begin(self, specification: Mapping[str, object], work: Path, port: int) -> None:
        """As `OtherNodes.begin`: the work folder goes by object storage."""
        self._group += 1
        told = {"specification": specification, "work": self._exchange.copy(work), "port": port}
        self._store.set(f"{self._group}/group", json.dumps(told))

    def wait_ready(self) -> None:
        """As `OtherNodes.wait_ready`."""
        told = 0
        while missing := [node for node in self._nodes if not self._store.check([f"{self._group}/ready/{node}"])]:
            if failure := self._failed():
                raise failure
            if len(missing) != told:
                told = len(missing)
                progress.report("finetune", f"waiting for {told} of {len(self._nodes) + 1} machines")
            time.sleep(LOOK_S)

    def failure(self) -> TokkaError | None:
        """As `OtherNodes.failure`: whoever says nothing within JOIN_SECONDS is gone."""
        deadline = time.monotonic() + JOIN_SECONDS
        while time.monotonic() < deadline:
            if found := self._failed():
                return found
            time.sleep(LOOK_S)
        return None

    def end(self) -> None:
        """As `OtherNodes.end`."""
        self._store.set(f"{self._group}/end", "")

    def leave(self, code: int) -> None:
        """Send the others home; waits until they have read it, or are taken to be gone."""
        self._store.set("over", str(code))
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline and not self._store.check([f"gone/{node}" for node in self._nodes]):
            time.sleep(LOOK_S)

    def _failed(self) -> TokkaError | None:
        """What a node has said of a rank of its own, if that was not broken by another one's end."""
        keys = [f"{self._group}/ended/{node}" for node in self._nodes]
        said = [json.loads(self._store.get(key)) for key in keys if self._store.check([key])]
        own = [one for one in said if one["kind"] != GroupBroken.__name__]
        return KINDS[own[0]["kind"]](own[0]["message"], own[0]["hint"]) if own else None


class FurtherNode:
    """Another machine's side."""

    def __init__(self, store: TCPStore, node: int) -> None:
        self._store, self._node = store, node
        self._group = 0

    def next_group(self) -> JsonObject | int:
        """Wait for the next group: what `FirstNode.begin` has told, or the exit code when there is none any more."""
        self._group += 1
        while not self._store.check([f"{self._group}/group"]):
            if self._store.check(["over"]):
                code = int(self._store.get("over"))
                self._store.set(f"gone/{self._node}", "")
                return code
            time.sleep(LOOK_S)
        told: JsonObject = json.loads(self._store.get(f"{self._group}/group"))
        return told

    def is_ready(self) -> None:
        """Say that the ranks of this machine are about to join."""
        self._store.set(f"{self._group}/ready/{self._node}", "")

    def has_failed(self, error: TokkaError) -> None:
        """Say why a rank of this machine has ended."""
        kind = type(error).__name__ if type(error).__name__ in KINDS else TokkaError.__name__
        told = {"kind": kind, "message": error.message, "hint": error.hint}
        self._store.set(f"{self._group}/ended/{self._node}", json.dumps(told))

    def is_to_end(self) -> bool:
        """Whether the group is over."""
        return self._store.check([f"{self._group}/end"]) or self._store.check(["over"])


def own_address() -> Place:
    """This process's place, by its environment."""
    return Place.from_environment(os.environ)
