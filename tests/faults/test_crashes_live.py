"""Rollouts on a real stack with a real registry, killed and raced: all that shows the record agrees with it soon after.

A short form of benchmarks/crashes.py; the hundreds of points of the decisions alone are in test_rollout_crashes.py.
"""

import os
import signal
import time

import pytest

from tests.faults.crash_world import Crashes, Point
from tests.fixtures.waiting import PATIENCE_S
from tests.fixtures.world import NAME
from tokka.request_log import log

# The driver, whoever shows the record in the registry, and the daemon.
POINTS = [
    Point("record", "after", 2, successor="before"), Point("alias", "after", 1), Point("map", "after", 2),
    Point("stop", "before", 1, version="3"),
]  # fmt: skip


@pytest.fixture(scope="module")
def crashes(make_world):
    made = Crashes(make_world())
    made.prepare()
    return made


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_killed_at_a_write_everything_agrees_soon_after_and_nobody_notices(crashes, point):
    outcome = crashes.run(point, limit_s=PATIENCE_S, requests=21)
    print(f"{point}: agreed after {outcome.converged_s:.2f} s, {outcome.asked} requests")
    assert outcome.reached
    assert outcome.differences == []
    assert outcome.asked > 20
    assert (outcome.failed, outcome.strangers) == ([], [])


def test_the_watch_of_a_killed_driver_goes_on_and_puts_the_previous_champion_back(crashes):
    driver = crashes.start("2", watch_s=600.0)
    crashes.world.wait(lambda: crashes.state.phase == "watch")
    os.kill(driver.pid, signal.SIGKILL)
    promoted = crashes.state
    successor = crashes.world.wait(lambda: crashes.state.owner != promoted.owner)
    assert (crashes.state.phase, crashes.state.promoted) == ("watch", promoted.promoted)
    fail(crashes.world, "2")
    seconds = crashes.world.wait(lambda: crashes.state.phase == "idle")
    assert crashes.state.champion.version == "1"
    crashes.world.wait(lambda: not crashes.differences())
    (decision,) = crashes.world.record.decisions(NAME, limit=1)
    assert (decision["action"], decision["topic"]) == ("roll_back", "watch")
    print(f"gone on with after {successor:.2f} s, rolled back {seconds:.2f} s after the failures")
    crashes.reset()


def fail(world, version):
    """A hundred failed requests, as the gateway would log them."""
    writer = log.Writer(world.settings.home / "requests", "test")
    facts = {"kind": "request", "route": "predict", "share": 0.0, "latency_ms": 5.0, "replayed": False, "retries": 0}
    more = {"canary": False, "stand_in": False, "version": version, "status": 503}
    writer.append([{**facts, **more, "prediction_id": f"f{number}", "time": time.time()} for number in range(100)])
    writer.close()


def test_an_alias_that_somebody_changed_comes_back(crashes):
    crashes.registry.set_alias("champion", "2")
    crashes.registry.set_alias("previous", "3")
    seconds = crashes.world.wait(lambda: crashes.registry.aliases() == {"champion": "1"})
    print(f"back after {seconds:.2f} s")


def test_of_four_processes_that_race_one_wins_and_the_others_say_superseded(crashes):
    said = [crashes.folder / f"said-{number}" for number in range(4)]
    drivers = [crashes.start("2", said=path) for path in said]
    for driver in drivers:
        driver.join(PATIENCE_S)
    verdicts = [path.read_text() for path in said]
    assert sorted(verdicts) == ["promoted", "superseded", "superseded", "superseded"], verdicts
    assert crashes.state.champion.version == "2"
    crashes.world.wait(lambda: not crashes.differences())
    crashes.reset()
