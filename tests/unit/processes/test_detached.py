"""A program that outlives whoever starts it, is found again, and ends with its supervisor."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.fixtures.waiting import wait_for
from tokka.errors import TokkaError
from tokka.processes.detached import DetachedProcess, adopting

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def supervisor():
    return adopting()


def start(command, tmp_path, supervisor):
    return DetachedProcess.start(command, supervisor=supervisor, folder=tmp_path, log=tmp_path / "log", niceness=3)


def test_it_is_the_supervisors_and_is_found_by_what_was_written_down(tmp_path, supervisor):
    detached = start(SLEEP, tmp_path, supervisor)
    assert psutil.Process(detached.pid).ppid() == supervisor and psutil.Process(detached.pid).nice() == os.nice(0) + 3
    detached.remember(tmp_path / "detached.json")
    found = DetachedProcess.recall(tmp_path / "detached.json", supervisor)
    assert (found.pid, found.started) == (detached.pid, detached.started)
    assert DetachedProcess.recall(tmp_path / "detached.json", supervisor + 1) is None, "somebody else's"
    found.stop(signal.SIGTERM, 5.0)
    assert not detached.alive()
    assert DetachedProcess.recall(tmp_path / "detached.json", supervisor) is None
    assert DetachedProcess.recall(tmp_path / "nothing.json", supervisor) is None


def test_a_program_that_does_not_exist_is_an_error(tmp_path, supervisor):
    with pytest.raises(TokkaError, match="nowhere"):
        start(["/nowhere/at/all"], tmp_path, supervisor)


def test_it_outlives_its_starter_and_not_its_supervisor(tmp_path):
    """The supervisor's child starts it and ends; the supervisor is killed."""
    program = f"""
import os, time
from pathlib import Path
from tokka.processes.detached import DetachedProcess, adopting
supervisor, folder = adopting(), Path({str(tmp_path)!r})
if os.fork() == 0:
    made = DetachedProcess.start({SLEEP!r}, supervisor=supervisor, folder=folder, log=folder / "log")
    made.remember(folder / "detached.json")
    os._exit(0)
os.wait()
print("started", flush=True)
time.sleep(60)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout.readline() == "started\n"
    detached = DetachedProcess.recall(tmp_path / "detached.json", supervisor.pid)
    assert detached is not None and detached.alive()
    supervisor.kill()
    supervisor.communicate()
    wait_for(lambda: not detached.alive())
    assert Path(tmp_path / "log").read_text() == ""
