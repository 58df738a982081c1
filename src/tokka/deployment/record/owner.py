"""The owner of a rollout: the process that wrote the record last, and whether it still lives.

Its death is known for certain and at once; a lease would have to run out first.
"""

import os
import socket
from pathlib import Path

from tokka.deployment.record.state import Owner, State
from tokka.processes import process

BOOT = Path("/proc/sys/kernel/random/boot_id")
PIDS = Path("/proc/self/ns/pid")


def this_process() -> Owner:
    """The caller."""
    return Owner(place=place(), pid=os.getpid(), started=process.identity(os.getpid()))


def place() -> str:
    """Where a process number means something: one boot of one machine, and there one namespace of processes."""
    try:
        return f"{BOOT.read_text(encoding='utf-8').strip()}/{PIDS.readlink()}"
    except OSError:
        return socket.gethostname()


def is_here(state: State) -> bool:
    """Whether the owner of a state ran where this process runs."""
    return state.owner is not None and state.owner.place == place()


def is_dead(state: State) -> bool:
    """Whether the owner of a state has certainly ended; False for one on another machine."""
    return state.owner is not None and has_ended(state.owner)


def has_ended(owner: Owner) -> bool:
    """Whether a process has certainly ended; False for one on another machine."""
    return owner.place == place() and not process.is_same(owner.pid, owner.started)
