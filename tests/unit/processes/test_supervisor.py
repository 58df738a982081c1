"""A child that is killed or breaks is replaced, one that ends by itself is not, and orphans are reaped."""

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.fixtures.waiting import PATIENCE_S, wait_for

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from tokka.processes import supervisor as module
from tokka.processes.supervisor import supervise

module.PAUSE_SECONDS = float(sys.argv[2])
lives = Path(sys.argv[1])

def work(supervisor):
    assert supervisor == os.getppid()
    with lives.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    number = len(lives.read_text().splitlines())
    WORK

sys.exit(supervise("work", work))
"""


def start(tmp_path, work, pause=0.1):
    command = [sys.executable, "-c", PROGRAM.replace("WORK", work), str(tmp_path / "lives"), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lives(tmp_path):
    path = tmp_path / "lives"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def has_ended(pid):
    """Gone, or ended and not reaped: whoever adopts an orphan here may be this very process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), signal.SIGKILL)", "raise RuntimeError('broken')"])
def test_a_child_that_dies_is_replaced_until_one_ends_by_itself(tmp_path, death):
    supervisor = start(tmp_path, f"if number < 3: {death}\n    return 4")
    supervisor.communicate(timeout=PATIENCE_S)
    assert supervisor.returncode == 4
    assert len(set(lives(tmp_path))) == 3


def test_one_that_dies_again_and_again_is_given_up(tmp_path):
    supervisor = start(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    _, said = supervisor.communicate(timeout=PATIENCE_S)
    assert supervisor.returncode == 1
    assert len(lives(tmp_path)) == 5 and "not started again" in said


SERVES = """
    if number == 1:
        import subprocess
        nowhere = subprocess.DEVNULL
        while_it_lives = f"while kill -0 {supervisor}; do sleep 0.1; done"
        subprocess.Popen(["sh", "-c", while_it_lives], start_new_session=True, stdout=nowhere, stderr=nowhere)
"""


def test_while_something_serves_it_is_not_given_up(tmp_path):
    supervisor = start(
        tmp_path, f"{SERVES}\n    if number < 8: os.kill(os.getpid(), signal.SIGKILL)\n    signal.pause()"
    )
    wait_for(lambda: len(lives(tmp_path)) == 8)
    supervisor.send_signal(signal.SIGTERM)
    _, said = supervisor.communicate(timeout=PATIENCE_S)
    assert "not started again" not in said


def test_while_something_serves_a_child_that_ends_by_itself_is_followed_by_another(tmp_path):
    supervisor = start(tmp_path, f"{SERVES}\n    if number == 3: signal.pause()\n    return 4 * (number - 1)")
    wait_for(lambda: len(lives(tmp_path)) == 3)
    assert supervisor.poll() is None
    supervisor.send_signal(signal.SIGTERM)
    supervisor.communicate(timeout=PATIENCE_S)
    assert len(lives(tmp_path)) == 3


def test_it_can_be_ended_while_it_waits_to_start_the_next_one(tmp_path):
    supervisor = start(tmp_path, f"{SERVES}\n    os.kill(os.getpid(), signal.SIGKILL)", pause=50)
    wait_for(lambda: len(lives(tmp_path)) == 5)
    wait_for(lambda: has_ended(lives(tmp_path)[-1]))
    supervisor.send_signal(signal.SIGTERM)
    _, said = supervisor.communicate(timeout=PATIENCE_S)
    assert supervisor.returncode == 0 and "Traceback" not in said
    assert len(lives(tmp_path)) == 5


def test_it_ends_its_child_when_it_is_told_to_and_takes_it_along_when_it_is_killed(tmp_path):
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        (tmp_path / "lives").unlink(missing_ok=True)
        supervisor = start(tmp_path, "time.sleep(60)\n    return 0")
        wait_for(lambda: lives(tmp_path))
        (child,) = lives(tmp_path)
        supervisor.send_signal(number)
        supervisor.communicate(timeout=PATIENCE_S)
        assert supervisor.returncode == code
        wait_for(lambda child=child: has_ended(child))
