"""Somebody sets the clock while a rollout runs: it neither ends a watch unwatched, nor promotes, nor kills anybody."""

import pytest

from tests.fakes.world import ENDPOINT, Model, World
from tokka.deployment.reconcile import Silence, end_abandoned
from tokka.deployment.record import clock, owner

HOURS = 5 * 3600.0
SHORT = {"quality_margin": 0.1, "step_requests": 40, "watch_s": 20, "maximum_wait_s": 120}


def set_in(here: World, phase: str, seconds: float) -> list[float]:
    """Have the wall clock set once, as soon as the rollout is in a phase; returns when that was."""
    moments_of_it: list[float] = []

    def jump() -> None:
        if not moments_of_it and here.state.phase == phase:
            here.clock.set_by += seconds
            moments_of_it.append(here.clock.now)

    here.clock.on_sleep = jump
    return moments_of_it


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
@pytest.mark.parametrize("phase", ["warm_up", "shadow", "step", "watch"])
def test_a_good_version_is_promoted_all_the_same_and_watched_for_the_whole_time(tmp_path, phase, seconds):
    here = World(tmp_path, canary=SHORT)
    if phase == "warm_up":
        here.challenger.ready = False
    jumped = set_in(here, phase, seconds)
    jump = here.clock.on_sleep

    def get_ready() -> None:
        jump()
        here.challenger.ready = here.challenger.ready or bool(jumped and here.clock.now > jumped[0] + 2)

    here.clock.on_sleep = get_ready
    assert here.rollout().verdict == "promoted"
    assert jumped or phase == "shadow", "a shadow that is decided at its first look waits for nobody"
    states = here.record.history(ENDPOINT, 100)
    watch = next(state for state in states if state["phase"] == "watch")
    assert here.clock.now - watch["promoted_moment"] >= SHORT["watch_s"]


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_a_version_that_fails_in_the_watch_still_goes_back(tmp_path, seconds):
    here = World(tmp_path, canary=SHORT)

    def worsen() -> None:
        if here.state.phase == "watch":
            here.clock.set_by = seconds
            here.challenger.live_errors = 0.6
            here.target.send([{"text": f"message {number}"} for number in range(60)], replayed=False)

    here.clock.on_sleep = worsen
    assert here.rollout().verdict == "rolled_back"
    assert here.state.champion.version == "1"


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_a_version_that_nobody_is_sent_to_is_neither_promoted_by_the_clock_nor_refused_before_its_time(
    tmp_path, seconds
):
    here = World(tmp_path, canary=SHORT)
    jumped = set_in(here, "step", seconds)
    jump = here.clock.on_sleep

    def freeze() -> None:
        here.target.frozen = True
        jump()

    here.clock.on_sleep = freeze
    assert here.rollout().verdict == "rolled_back"
    assert "held for more than" in here.state.reason
    assert here.clock.now - jumped[0] >= SHORT["maximum_wait_s"] - 1


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_a_living_driver_is_not_ended_and_a_newer_version_not_interrupted(tmp_path, seconds):
    here = World(tmp_path, canary=SHORT)
    silence = Silence(here.clock.monotonic)
    ended, verdicts = [], []

    def look() -> None:
        if here.state.phase == "step" and not verdicts:
            here.clock.set_by = seconds
            verdicts.append(here.rollout("2").verdict)
        ended.append(end_abandoned(here.record, ENDPOINT, silence.seconds(here.record.last_heartbeat(ENDPOINT))))

    here.clock.on_sleep = look
    verdicts.append(here.rollout("3").verdict)
    assert verdicts == ["superseded", "promoted"]
    assert set(ended) == {None}


def test_a_clock_that_is_kept_by_the_network_has_not_jumped(tmp_path):
    here = World(tmp_path)
    here.clock.set_by = 0.9
    assert clock.restart(here.state, here.clock) == {}
    here.clock.set_by = -6.0
    assert clock.restart(here.state, here.clock) == {"started": here.clock.time()}


def test_after_a_restart_of_the_machine_no_moment_is_compared(tmp_path, monkeypatch):
    here = World(tmp_path, challenger=Model())
    assert not clock.has_jumped(here.state, here.clock)
    monkeypatch.setattr(owner, "place", lambda: "another boot")
    assert clock.has_jumped(here.state, here.clock)
    assert not owner.is_dead(here.state), "nobody can tell from here"
