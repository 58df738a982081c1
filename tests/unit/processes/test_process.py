"""A process is known by its number and its start, whatever anybody does to the clock."""

import os
import subprocess
import sys

import psutil

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
