"""Several devices: one process for each, whose gradients are averaged after every batch (DistributedDataParallel).

Every rank prepares the same training from the same files and takes its part of each batch, so that batches, schedule
and number of steps are those of one device. Rank 0 alone decides, writes and reports.
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

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from tokka import files
from tokka.errors import TokkaError
from tokka.processes.process import die_with_parent
from tokka.training.fit.out_of_memory import OutOfMemory
from tokka.training.setup.precision import choose_device
from tokka.training.setup.training_setup import TrainingSetup

HOST = "127.0.0.1"
RANK = "TOKKA_RANK"
EXIT_OUT_OF_MEMORY = 86
JOIN_SECONDS = 10
READY = "ready"
FOLDER, SPECIFICATION = "ranks", "rank.json"
COMMAND = (sys.executable, "-m", "tokka.training.fit.rank_process")


@dataclass(frozen=True)
class Ranks:
    """The other processes of a training, by rank, and the folder of their ready files and logs."""

    processes: dict[int, subprocess.Popen[bytes]]
    folder: Path

    def wait_ready(self) -> None:
        """Wait until all are about to join the group: inside, one that has ended (TokkaError) is not noticed."""
        while missing := [rank for rank in self.processes if not (self.folder / f"{rank}.{READY}").exists()]:
            for rank in missing:
                if self.processes[rank].poll() is not None:
                    raise self.failure() or TokkaError(f"process {rank} of the training ended before it began")
            time.sleep(0.05)

    def failure(self) -> TokkaError | None:
        """Why the group broke, when another rank was the first to end; None when all of them did well."""
        for rank, process in self.processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(JOIN_SECONDS)
            if process.returncode in (EXIT_OUT_OF_MEMORY, -signal.SIGKILL):
                return OutOfMemory("memory ran out on another device", "a smaller finetuning.batch_size needs less")
            if process.returncode:
                said = (self.folder / f"{rank}.log").read_text(errors="replace")
                lines = said.strip().splitlines() or ["it said nothing"]
                return TokkaError(f"a process of the training on several devices ended: {lines[-1]}")
        return None

    def end(self) -> None:
        """Kill and reap all of them."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def launched(setup: TrainingSetup, work: Path) -> Iterator[None]:
    """Start ranks 1 … devices - 1 for as long as the training lasts; nothing for one device, or in such a rank.

    Raises:
        OutOfMemory: a device's memory ran out.
        TokkaError: the devices asked for are not there, or a process of the group ended.
    """
    count = setup.params.finetuning.devices
    if count == 1 or RANK in os.environ:
        yield
        return
    # The processors of a machine without a GPU are shared.
    if choose_device() == "cuda" and torch.cuda.device_count() < count:
        raise TokkaError(
            f"finetuning.devices is {count}, and this machine has {torch.cuda.device_count()} GPU(s)",
            "set finetuning.devices to what is there",
        )
    # In the work folder: what a kill leaves there, the next attempt removes.
    folder = work / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port, before = find_free_network_port(), dict(os.environ)
    files.write_json(folder / SPECIFICATION, {**setup.specification(), "work": str(work)})
    ranks = Ranks({rank: _start_rank(folder, rank, count, port) for rank in range(1, count)}, folder)
    os.environ.update(_place(0, count, port))
    try:
        ranks.wait_ready()
        yield
    except (RuntimeError, TokkaError) as error:
        raise (ranks.failure() or error) from None
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


def _start_rank(folder: Path, rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    with (folder / f"{rank}.log").open("wb") as output:
        return subprocess.Popen(
            [*COMMAND, str(folder / SPECIFICATION)],
            env={**os.environ, **_place(rank, count, port), "TOKKA_EVENTS": os.devnull},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output,
            preexec_fn=lambda: die_with_parent(parent),
        )  # fmt: skip


def _place(rank: int, count: int, port: int) -> dict[str, str]:
    """What Lightning's environment and torch read; its presence says that the processes are there already."""
    place = {RANK: rank, "RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {"MASTER_ADDR": HOST, **{name: str(value) for name, value in place.items()}}
