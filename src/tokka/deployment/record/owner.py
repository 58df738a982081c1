"""Who drives a rollout: the process that wrote the record last, and whether it still lives.

record.compare_and_set(state, …)          # writes this process down
drivers.is_dead(record.read(endpoint))    # known for certain, at once; a lease would have to run out first
"""

import os
import socket
from pathlib import Path

from tokka.deployment.record.state import Driver, State
from tokka.processes import process

BOOT = Path("/proc/sys/kernel/random/boot_id")
PIDS = Path("/proc/self/ns/pid")


def this_process() -> Driver:
    """The caller."""
    return Driver(place=place(), pid=os.getpid(), started=process.identity(os.getpid()))


def place() -> str:
    """Where a process number means something: one boot of one machine, and there one namespace of processes."""
    try:
        return f"{BOOT.read_text(encoding='utf-8').strip()}/{PIDS.readlink()}"
    except OSError:
        return socket.gethostname()


def is_here(state: State) -> bool:
    """Whether the driver of a state ran where this process runs."""
    return state.driver is not None and state.driver.place == place()


def is_dead(state: State) -> bool:
    """Whether the driver has certainly ended; False for one that is elsewhere, since nobody can tell from here."""
    return state.driver is not None and is_here(state) and not process.is_same(state.driver.pid, state.driver.started)
