"""A process is known by its number and its start, whatever anybody does to the clock."""

import os
import subprocess
import sys

import psutil
import pytest

from tests.fixtures.waiting import wait_for
from tokka.processes import process


def test_a_process_is_itself_until_it_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process.identity(child.pid)
    assert process.is_same(child.pid, started) and not process.is_same(child.pid, started + 1)
    child.kill()
    wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not process.is_same(child.pid, started), "a zombie"
    child.communicate()
    assert process.identity(child.pid) == 0.0


def test_its_start_does_not_depend_on_the_wall_clock():
    """psutil adds the time of the last boot, which the kernel computes anew from the wall clock."""
    since_boot = psutil.Process().create_time() - psutil.boot_time()
    assert abs(process.identity(os.getpid()) - since_boot) < 1.0


@pytest.mark.parametrize("before", [0, 19])
def test_a_priority_is_lowered_and_never_raised(before):
    """To raise one needs a right that a container has not."""
    script = (
        "import os, sys; from tokka.processes import process; "
        f"os.nice({before}); process.lower_priority(); "
        "print(os.getpriority(os.PRIO_PROCESS, 0), process.STARTING_NICENESS)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    niceness, wanted = map(int, done.stdout.split())
    assert niceness == max(wanted, min(19, before + os.getpriority(os.PRIO_PROCESS, 0)))
