"""Several devices: a process for each, whose gradients are averaged after every batch (DistributedDataParallel).

    with launched(job, work):          # starts ranks 1 … devices - 1; this process is rank 0
        fit as ever                    # Lightning finds its place in the group in the environment

Every rank prepares the same job from the same files and takes its part of each batch, so that the batches, the
schedule and the number of steps are those of one device. Rank 0 alone decides, writes and speaks.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError
from tokka.model.base import BaseModelFolder
from tokka.params import Params
from tokka.processes import lifetime
from tokka.training.setup.job import Job, own_randomness_and_threads, prepare_job
from tokka.training.setup.precision import choose_device

HOST = "127.0.0.1"
RANK = "TOKKA_RANK"
EXIT_OUT_OF_MEMORY = 86
JOIN_SECONDS = 10
READY = "ready"
COMMAND = (sys.executable, "-m", "tokka.training.fit.ddp")


@dataclass(frozen=True)
class Ranks:
    """The other processes of a training, by rank, and the folder of their signs of life and last words."""

    processes: dict[int, subprocess.Popen[bytes]]
    folder: Path

    def wait_ready(self) -> None:
        """Wait until every process is about to join the group: who waits inside cannot see that another has ended.

        Raises:
            TokkaError: one ended before.
        """
        missing = set(self.processes)
        while missing:
            for rank in sorted(missing):
                if (self.folder / f"{rank}.{READY}").exists():
                    missing.remove(rank)
                elif self.processes[rank].poll() is not None:
                    raise self.failure() or TokkaError(f"process {rank} of the training ended before it began")
            time.sleep(0.05)

    def failure(self) -> TokkaError | None:
        """Why the group broke, when another rank was the first to end; None when all of them did well."""
        from tokka.training.fit.out_of_memory import OutOfMemory

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
        """Leave none behind."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def launched(job: Job, work: Path) -> Iterator[None]:
    """The group, for as long as the training lasts; nothing for one device, or in a rank that was launched itself.

    Raises:
        OutOfMemory: a device's memory ran out.
        TokkaError: the devices asked for are not there, or a process of the group ended.
    """
    count = job.params.finetuning.devices
    if count == 1 or RANK in os.environ:
        yield
        return
    require_devices(count)
    with tempfile.TemporaryDirectory(prefix="tokka-ranks-") as folder:
        port = _free_port()
        ranks = _start(job, work, Path(folder), port)
        before = dict(os.environ)
        os.environ.update(_place(0, count, port))
        try:
            ranks.wait_ready()
            yield
        except (RuntimeError, TokkaError) as error:
            raise (ranks.failure() or error) from None
        finally:
            os.environ.clear()
            os.environ.update(before)
            _leave()
            ranks.end()


def require_devices(count: int) -> None:
    """See that there are so many GPUs; processors of a machine without one share as one likes.

    Raises:
        TokkaError: there are fewer.
    """
    import torch

    if choose_device() == "cuda" and torch.cuda.device_count() < count:
        raise TokkaError(
            f"finetuning.devices is {count}, and this machine has {torch.cuda.device_count()} GPU(s)",
            "set finetuning.devices to what is there",
        )


def own_rank() -> int:
    """This process's place in the group; 0 outside of one."""
    return int(os.environ.get(RANK, "0"))


def main(specification: Path) -> None:
    """What a rank above 0 runs: the same job, fitted in step with the others."""
    from tokka.data.preparation.prepared import load
    from tokka.training.fit.fit import fit
    from tokka.training.fit.out_of_memory import OutOfMemory

    given = json.loads(specification.read_text(encoding="utf-8"))
    params = Params.model_validate(given["params"])
    base = BaseModelFolder(Path(given["base"]["path"]), given["base"]["name"], given["base"]["digest"])
    unlabelled = Path(given["unlabelled"]) if given["unlabelled"] else None
    with own_randomness_and_threads(params):
        job = prepare_job(load(Path(given["prepared"])), params, base, unlabelled)
        (specification.parent / f"{own_rank()}.{READY}").touch()
        try:
            fit(job, Path(given["work"]), 0.0)
        except OutOfMemory:
            sys.exit(EXIT_OUT_OF_MEMORY)
        except TokkaError as error:
            sys.exit(error.message)


def _start(job: Job, work: Path, folder: Path, port: int) -> Ranks:
    given = {
        "params": job.params.model_dump(mode="json", exclude_none=True),
        "prepared": str(job.prepared.folder),
        "base": {"path": str(job.base.path), "name": job.base.name, "digest": job.base.digest},
        "unlabelled": str(job.unlabelled_file or ""),
        "work": str(work),
    }
    files.write_json(folder / "rank.json", given)
    count, parent = job.params.finetuning.devices, os.getpid()
    processes = {}
    for rank in range(1, count):
        with (folder / f"{rank}.log").open("wb") as output:
            processes[rank] = subprocess.Popen(
                [*COMMAND, str(folder / "rank.json")],
                env={**os.environ, **_place(rank, count, port), "TOKKA_EVENTS": os.devnull},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output,
                preexec_fn=lambda: lifetime.die_with_parent(parent),
            )  # fmt: skip
    return Ranks(processes, folder)


def _place(rank: int, count: int, port: int) -> dict[str, str]:
    """What Lightning's environment and torch read; its presence says that the processes are there already."""
    place: dict[str, Any] = {
        RANK: rank, "RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": count,
        "MASTER_ADDR": HOST, "MASTER_PORT": port,
    }  # fmt: skip
    return {name: str(value) for name, value in place.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _leave() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
