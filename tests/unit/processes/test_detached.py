"""A program that outlives whoever starts it, is found again, and ends with its guardian."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tokka.errors import TokkaError
from tokka.processes.detached import Ward, adopting

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def guardian():
    return adopting()


def start(command, tmp_path, guardian):
    return Ward.start(command, guardian=guardian, folder=tmp_path, log=tmp_path / "log", niceness=3)


def test_it_is_the_guardians_and_is_found_by_what_was_written_down(tmp_path, guardian):
    ward = start(SLEEP, tmp_path, guardian)
    assert psutil.Process(ward.pid).ppid() == guardian and psutil.Process(ward.pid).nice() == 3
    ward.remember(tmp_path / "ward.json")
    found = Ward.recall(tmp_path / "ward.json", guardian)
    assert (found.pid, found.started) == (ward.pid, ward.started)
    assert Ward.recall(tmp_path / "ward.json", guardian + 1) is None, "somebody else's"
    found.stop(signal.SIGTERM, 5.0)
    assert not ward.alive()
    assert Ward.recall(tmp_path / "ward.json", guardian) is None
    assert Ward.recall(tmp_path / "nothing.json", guardian) is None


def test_a_program_that_does_not_exist_is_an_error(tmp_path, guardian):
    with pytest.raises(TokkaError, match="nowhere"):
        start(["/nowhere/at/all"], tmp_path, guardian)


def test_it_outlives_its_starter_and_not_its_guardian(tmp_path):
    """The guardian's child starts it and ends; the guardian is killed."""
    program = f"""
import os, time
from pathlib import Path
from tokka.processes.detached import Ward, adopting
guardian, folder = adopting(), Path({str(tmp_path)!r})
if os.fork() == 0:
    Ward.start({SLEEP!r}, guardian=guardian, folder=folder, log=folder / "log").remember(folder / "ward.json")
    os._exit(0)
os.wait()
print("started", flush=True)
time.sleep(60)
"""
    guardian = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert guardian.stdout.readline() == "started\n"
    ward = Ward.recall(tmp_path / "ward.json", guardian.pid)
    assert ward is not None and ward.alive()
    guardian.kill()
    guardian.communicate()
    deadline = time.monotonic() + 10
    while ward.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(tmp_path / "log").read_text() == ""
