"""Several devices: one process for each, whose gradients are averaged after every batch (DistributedDataParallel).

Every rank prepares the same training from the same files and takes its part of each batch, so that batches, schedule
and number of steps are those of one device. Rank 0 alone decides, writes and reports. The ranks of other machines are
started there (`TrainingSetup.others`), and join in the same way; what starts them imports no more than torch.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tokka import files
from tokka.errors import TokkaError
from tokka.processes.process import die_with_parent
from tokka.training.fit.out_of_memory import OutOfMemory
from tokka.training.setup.precision import choose_device

if TYPE_CHECKING:
    from tokka.training.setup.training_setup import OtherNodes, TrainingSetup

HOST = "127.0.0.1"
RANK = "TOKKA_RANK"
# Without it Lightning gives each process as many threads as its machine has processors for it, whatever was asked for.
THREADS = "OMP_NUM_THREADS"
# Of a rank: its device's memory ran out; the group broke, most often since another rank had ended.
EXIT_OUT_OF_MEMORY, EXIT_BROKEN = 86, 87
JOIN_SECONDS = 10
READY = "ready"
FOLDER, SPECIFICATION = "ranks", "rank.json"
COMMAND = (sys.executable, "-m", "tokka.training.fit.rank_process")


class GroupBroken(TokkaError):
    """No process is known to have failed by itself: from the last checkpoint on it may do well."""


@dataclass(frozen=True)
class Group:
    """Processes that meet at a port of the first machine: so many nodes, each with so many devices."""

    nodes: int
    devices: int
    port: int
    host: str = HOST

    def place(self, node: int, device: int) -> dict[str, str]:
        """What Lightning's environment and torch read; its presence says that the processes are there already."""
        rank = node * self.devices + device
        place = {RANK: rank, "RANK": rank, "LOCAL_RANK": device, "NODE_RANK": node, "MASTER_PORT": self.port}
        place["WORLD_SIZE"] = self.nodes * self.devices
        return {"MASTER_ADDR": self.host, **{name: str(value) for name, value in place.items()}}


@dataclass(frozen=True)
class Ranks:
    """Processes of a training on this machine, by rank, and the folder of their specification, ready files and logs.

    others: the machines with further ones.
    """

    processes: dict[int, subprocess.Popen[bytes]]
    folder: Path
    others: "OtherNodes | None" = None

    @classmethod
    def start(cls, folder: Path, group: Group, node: int, others: "OtherNodes | None" = None) -> "Ranks":
        """Start this node's ranks by the specification in `folder`; rank 0 is there already."""
        own = (group.place(node, device) for device in range(group.devices))
        return cls({int(one[RANK]): _start(folder, one) for one in own if one[RANK] != "0"}, folder, others)

    def wait_ready(self) -> None:
        """Wait until all are about to join the group: inside, one that has ended (TokkaError) is not noticed."""
        while not self.are_ready():
            time.sleep(0.05)
        if self.others:
            self.others.wait_ready()

    def are_ready(self) -> bool:
        """Whether all ranks of this machine are about to join the group; TokkaError when one has ended before."""
        missing = [rank for rank in self.processes if not (self.folder / f"{rank}.{READY}").exists()]
        for rank in missing:
            if self.processes[rank].poll() is not None:
                raise self.failure() or TokkaError(f"process {rank} of the training ended before it began")
        return not missing

    def have_ended(self) -> bool:
        """Whether no rank of this machine runs any more, or one of them has failed."""
        codes = [process.poll() for process in self.processes.values()]
        return None not in codes or any(codes)

    def failure(self) -> TokkaError | None:
        """Why the group broke, when another rank was the first to end; None when all of them did well."""
        broken: GroupBroken | None = None
        for rank, process in self.processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(JOIN_SECONDS)
            if process.returncode in (EXIT_OUT_OF_MEMORY, -signal.SIGKILL):
                return OutOfMemory("memory ran out on another device", "a smaller finetuning.batch_size needs less")
            if process.returncode:
                said = (self.folder / f"{rank}.log").read_text(errors="replace")
                lines = said.strip().splitlines() or ["it said nothing"]
                words = f"a process of the training on several devices ended: {lines[-1]}"
                if process.returncode != EXIT_BROKEN:
                    return TokkaError(words)
                broken = broken or GroupBroken(words)
        return (self.others.failure() if self.others else None) or broken

    def end(self) -> None:
        """Kill and reap all of them."""
        if self.others:
            self.others.end()
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def launched(setup: "TrainingSetup", work: Path) -> Iterator[None]:
    """Start the ranks above 0 for as long as the training lasts; nothing for one device, or in such a rank.

    Raises:
        OutOfMemory: a device's memory ran out.
        TokkaError: the devices or machines asked for are not there, or a process of the group ended.
    """
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    params = setup.params.finetuning
    own = {THREADS: str(torch.get_num_threads())}
    if params.ranks == 1 or RANK in os.environ:
        os.environ.update(own if RANK in os.environ else {})
        yield
        return
    _check(setup)
    # In the work folder: what a kill leaves there, the next attempt removes.
    folder = work / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    group, before = Group(params.nodes, params.devices, find_free_network_port()), dict(os.environ)
    specification = {**setup.specification(), "work": str(work)}
    files.write_json(folder / SPECIFICATION, specification)
    if setup.others:
        setup.others.begin(specification, work, group.port)
    ranks = Ranks.start(folder, group, 0, setup.others)
    os.environ.update({**group.place(0, 0), **own})
    try:
        ranks.wait_ready()
        yield
    except (RuntimeError, TokkaError) as error:
        found = ranks.failure()
        # What this process says of itself says more than that the others have lost it.
        is_own = isinstance(error, TokkaError) and isinstance(found, GroupBroken)
        raise (error if is_own else found or error) from None
    finally:
        os.environ.clear()
        os.environ.update(before)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        ranks.end()
        shutil.rmtree(folder, ignore_errors=True)


def own_rank() -> int:
    """This process's place in the group; 0 outside of one."""
    return int(os.environ.get(RANK, "0"))


def _check(setup: "TrainingSetup") -> None:
    params = setup.params.finetuning
    # The processors of a machine without a GPU are shared.
    if choose_device() == "cuda" and torch.cuda.device_count() < params.devices:
        raise TokkaError(
            f"finetuning.devices is {params.devices}, and this machine has {torch.cuda.device_count()} GPU(s)",
            "set finetuning.devices to what is there",
        )
    if params.nodes > 1 and setup.others is None:
        raise TokkaError(
            f"finetuning.nodes is {params.nodes}, and this training has one machine",
            f"set finetuning.nodes: 1 and finetuning.devices: {params.ranks}, which gives the same weights",
        )


def _start(folder: Path, place: dict[str, str]) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    with (folder / f"{place[RANK]}.log").open("wb") as output:
        return subprocess.Popen(
            [*COMMAND, str(folder / SPECIFICATION)],
            env={**os.environ, **place, "TOKKA_EVENTS": os.devnull},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output,
            preexec_fn=lambda: die_with_parent(parent),
        )  # fmt: skip
