"""The end of a process is noticed at once, by whoever is not its parent too, and told of once."""

import subprocess
import sys

from tests.fixtures.waiting import LIMIT_S
from tokka.processes.exit_watch import ExitWatch

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# A wait that is told of nothing ends after this, and says no.
LONG = LIMIT_S


def test_an_end_is_noticed_once():
    watch, children = ExitWatch(), [subprocess.Popen(SLEEP) for _ in range(2)]
    pids = {child.pid for child in children}
    assert watch.wait(pids, 0.01) is False
    children[0].kill()
    assert watch.wait(pids, LONG) is True
    # It is no zombie's to keep whoever waits awake.
    assert watch.wait(pids, 0.01) is False
    children[1].kill()
    for child in children:
        child.wait()
    assert watch.wait(pids, LONG) is True
    assert watch.wait(set(), 0.01) is False


def test_one_that_had_ended_before_is_told_of():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    watch = ExitWatch()
    assert watch.wait({child.pid}, LONG) is True
    assert watch.wait({child.pid}, 0.01) is False
