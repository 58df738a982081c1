"""A rollout killed before and after each of its writes, and asked for again: it converges, with one champion always."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cluster import ClusterTarget
from tests.fakes.world import ENDPOINT, Clock, FakeTarget, Killed, Model, World
from tests.fixtures.waiting import PATIENCE_S
from tokka.deployment import ab
from tokka.deployment.reconcile import end_abandoned, rollback, show_last_verdict
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.deployment.rollout import RolloutResult
from tokka.stack import drive

SHORT = {"quality_margin": 0.1, "step_requests": 40, "watch_s": 0.6}
PROMOTED = {"champion": "2", "previous": "1"}
BACK = {"champion": "1"}
# Those of the start of an A/B test, and of its end by a failing challenger.
AB_STARTS, AB_ENDS = 4, 2
PATH = os.environ.get("PYTHONPATH", "")
# The writes of an uninterrupted rollout: record, decisions, signs of life, target, tags and aliases. On a cluster the
# target's are what the Kubernetes API is asked to change.
WRITES = {
    "laptop": {"good": 27, "first": 6, "worse": 8, "failing": 15},
    "cluster": {"good": 26, "first": 5, "worse": 7, "failing": 15},
}
TARGETS = {"laptop": FakeTarget, "cluster": ClusterTarget}


def world(name: str, folder: Path, where: str = "laptop") -> World:
    """A good second version, a first version, one that is worse in the shadow, one that fails on live traffic."""
    challenger = {"worse": Model(accuracy=0.5), "failing": Model(live_errors=0.6)}.get(name, Model())
    return World(folder, challenger=challenger, first=name == "first", canary=SHORT, serves=TARGETS[where])


def points() -> list[tuple[str, str, int, bool]]:
    rollouts = [(where, name, writes) for where, found in WRITES.items() for name, writes in found.items()]
    return [(*one, at, after) for *one, writes in rollouts for at in range(writes) for after in (False, True)]


@pytest.mark.parametrize(("where", "name"), [(where, name) for where, found in WRITES.items() for name in found])
def test_the_points_are_all_the_writes_there_are(tmp_path, where, name):
    here = world(name, tmp_path, where)
    record = here.dying(-1, after=False)
    here.rollout(record=record)
    assert record.writes == WRITES[where][name]


@pytest.mark.parametrize(("where", "name", "at", "after"), points())
def test_killed_at_a_write_and_run_again(tmp_path, where, name, at, after):
    here = world(name, tmp_path, where)
    with pytest.raises(Killed):
        here.rollout(record=here.dying(at, after))
    here.target.restart()
    record = here.healed()
    between = record.read(ENDPOINT)
    assert name == "first" or between.champion is not None
    assert_converged(here, name, here.rollout(record=record).verdict)


@pytest.mark.parametrize("at", [0, 3, 7, 12])
def test_killed_again_while_it_recovers(tmp_path, at):
    here = world("good", tmp_path)
    for point in (8, at):
        with pytest.raises(Killed):
            here.rollout(record=here.dying(point, after=False))
    assert_converged(here, "good", here.rollout(record=here.healed()).verdict)


def assert_converged(here: World, name: str, verdict: str) -> None:
    good = name in ("good", "first")
    state = here.state
    assert verdict == ("promoted" if good else "rolled_back")
    assert (state.phase, state.challenger, state.share) == ("idle", None, 0.0)
    assert here.registry.alias == ({"champion": "2"} if name == "first" else PROMOTED if good else BACK)
    assert here.registry.of["2"].tags["tokka.canary"] == verdict
    assert here.target.shows(state)
    assert_one_champion(here.record, 2 if good and name != "first" else 1)


def assert_one_champion(record: Record, champions: int) -> None:
    """The champion changed no more often than it should have, was never lost, and no generation is missing."""
    states = record.history(ENDPOINT, 1000)[::-1]
    assert [state["generation"] for state in states] == list(range(1, len(states) + 1))
    served = [state["champion"]["version"] if state["champion"] else None for state in states]
    changes = [new for old, new in zip([None, *served], served, strict=False) if new != old]
    assert None not in changes
    assert len(changes) == champions


@pytest.mark.parametrize("at", [9, 17])
def test_sigkilled_for_real_and_run_again_by_a_new_process(tmp_path, at):
    command = (
        "import os, signal; from pathlib import Path; from tests.faults.test_rollout_crashes import world; "
        "from tests.fakes.world import Killed\n"
        f"here = world('good', Path({str(tmp_path)!r}))\n"
        f"try: here.rollout(record=here.dying({at}, after=True))\n"
        "except Killed: os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, env={**os.environ, "PYTHONPATH": f".:{PATH}"}
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    here = world("first", tmp_path)
    here.registry.alias = {"champion": "1", "challenger": "2"}
    here.clock.now += 1000
    here.target.apply(here.state)
    assert_converged(here, "good", here.rollout().verdict)


@pytest.mark.parametrize("at", [3, 8, 11])
def test_an_abandoned_rollout_is_rolled_back_without_anybody_asking(tmp_path, at):
    here = world("good", tmp_path)
    with pytest.raises(Killed):
        here.rollout(record=here.dying(at, after=True))
    record = here.healed()
    assert end_abandoned(record, ENDPOINT, 59.0) is None, "it may still live"
    ended = end_abandoned(record, ENDPOINT, 61.0)
    assert ended is not None and ended.phase == "idle" and ended.champion.version == "1"
    assert "abandoned" in record.history(ENDPOINT, 1)[0]["reason"]
    assert end_abandoned(record, ENDPOINT, 61.0) is None
    assert here.rollout(record=record).verdict == "promoted"


def die_in_the_watch(here: World) -> None:
    """Have the driver of a good version killed right after its promotion."""

    def die() -> None:
        if here.state.phase == "watch":
            raise Killed

    here.clock.on_sleep = die
    with pytest.raises(Killed):
        here.rollout()
    here.clock.on_sleep = lambda: None


def go_on(here: World, record: Record | None = None) -> RolloutResult | None:
    """As the daemon's service does."""
    return drive.go_on(
        record or here.record, here.target, here.params, here.settings, None, here.clock, here.target.reader
    )


def test_an_abandoned_watch_is_watched_to_its_end_counted_from_the_promotion(tmp_path):
    here = World(tmp_path, canary={**SHORT, "watch_s": 30})
    die_in_the_watch(here)
    promoted = here.clock.now
    assert end_abandoned(here.record, ENDPOINT, 61.0) is None and here.state.phase == "watch"
    here.clock.now += 10
    assert go_on(here).verdict == "promoted"
    assert 29 <= here.clock.now - promoted <= 32
    assert (here.state.phase, here.state.champion.version) == ("idle", "2")
    assert go_on(here) is None
    assert show_last_verdict(here.record, ENDPOINT, here.registry) == "2"
    assert here.registry.of["2"].tags["tokka.canary"] == "promoted"


def test_an_abandoned_watch_can_still_go_back(tmp_path):
    here = World(tmp_path, canary={**SHORT, "watch_s": 30})
    die_in_the_watch(here)
    here.challenger.live_errors = 0.6
    here.target.send([{"text": f"message {number}"} for number in range(200)])
    assert go_on(here).verdict == "rolled_back"
    assert (here.state.champion.version, here.state.previous) == ("1", None)
    show_last_verdict(here.record, ENDPOINT, here.registry)
    assert here.registry.of["2"].tags["tokka.canary"] == "rolled_back"


def test_the_rest_of_a_watch_is_judged_by_what_its_rollout_was_given(tmp_path):
    here = World(tmp_path, canary={**SHORT, "watch_s": 30})
    die_in_the_watch(here)
    given, began = here.params, here.clock.now
    here.params = given.model_copy(update={"canary": given.canary.model_copy(update={"watch_s": 5.0})})
    go_on(here)
    assert here.clock.now - began > 28


def start_ab(here: World, record: Record | None = None) -> State:
    return ab.start(here.rollout_of("2", record), 0.3)


def failing_ab(folder: Path) -> World:
    """Half-way through an A/B test whose challenger has begun to fail."""
    here = World(folder, canary=SHORT)
    start_ab(here)
    here.challenger.live_errors = 0.6
    here.target.send([{"text": f"message {number}"} for number in range(300)], replayed=False)
    return here


def test_the_points_of_an_ab_test_are_all_the_writes_there_are(tmp_path):
    here, failing = World(tmp_path / "start", canary=SHORT), failing_ab(tmp_path / "failing")
    records = [here.dying(-1, after=False), failing.dying(-1, after=False)]
    start_ab(here, records[0])
    go_on(failing, records[1])
    assert [record.writes for record in records] == [AB_STARTS, AB_ENDS]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(AB_STARTS))
def test_an_ab_test_killed_while_it_starts_is_in_force_or_can_be_started_again(tmp_path, at, after):
    here = World(tmp_path, canary=SHORT)
    with pytest.raises(Killed):
        start_ab(here, here.dying(at, after))
    record = here.healed()
    assert record.read(ENDPOINT).champion.version == "1"
    if record.read(ENDPOINT).phase != "ab":
        end_abandoned(record, ENDPOINT, 61.0)
        assert record.read(ENDPOINT).phase == "idle"
        start_ab(here, record)
    state = record.read(ENDPOINT)
    assert (state.phase, state.share, state.champion.version, state.challenger.version) == ("ab", 0.3, "1", "2")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(AB_ENDS))
def test_an_ab_test_whose_driver_is_killed_is_ended_by_the_next_one(tmp_path, at, after):
    here = failing_ab(tmp_path)
    with pytest.raises(Killed):
        go_on(here, here.dying(at, after))
    record = here.healed()
    ended = go_on(here, record)
    state = record.read(ENDPOINT)
    assert ended is None or ended.verdict == "rolled_back"
    assert (state.phase, state.champion.version, state.challenger) == ("idle", "1", None)
    assert show_last_verdict(record, ENDPOINT, here.registry) == "2"
    assert here.registry.of["2"].tags["tokka.canary"] == "rolled_back"


def test_nobody_ends_an_ab_test_in_which_nothing_fails(tmp_path):
    """It is driven for an hour, and killed again and again."""
    here = World(tmp_path, canary=SHORT)
    started = start_ab(here)

    def kill() -> None:
        here.target.send([{"text": f"message {number}"} for number in range(5)], replayed=False)
        if here.clock.now > until:
            raise Killed

    here.clock.on_sleep = kill
    for _ in range(6):
        until = here.clock.now + 60
        with pytest.raises(Killed):
            go_on(here)
    assert here.state == started


def test_a_newer_version_takes_over_and_the_older_one_says_superseded(tmp_path):
    here = World(tmp_path, canary=SHORT)
    verdicts = []

    def interrupt() -> None:
        if here.state.phase == "step":
            here.clock.on_sleep = lambda: None
            verdicts.append(here.rollout("3").verdict)

    here.clock.on_sleep = interrupt
    verdicts.append(here.rollout("2").verdict)
    assert verdicts == ["promoted", "superseded"]
    assert here.state.champion.version == "3"
    assert here.registry.alias == {"champion": "3", "previous": "1"}


def test_an_older_version_does_not_interrupt_a_newer_one_that_lives(tmp_path):
    here = World(tmp_path, canary=SHORT)
    verdicts = []

    def interrupt() -> None:
        if here.state.phase == "shadow":
            here.clock.on_sleep = lambda: None
            verdicts.append(here.rollout("2").verdict)

    here.clock.on_sleep = interrupt
    verdicts.append(here.rollout("3").verdict)
    assert verdicts == ["superseded", "promoted"]


@pytest.mark.parametrize("phase", ["shadow", "step", "watch"])
def test_a_rollback_by_hand_ends_a_rollout(tmp_path, phase):
    here = World(tmp_path, canary=SHORT)

    def interrupt() -> None:
        if here.state.phase == phase:
            here.clock.on_sleep = lambda: None
            rollback(here.record, ENDPOINT, "complaints")

    here.clock.on_sleep = interrupt
    assert here.rollout().verdict == "superseded"
    assert here.state.champion.version == "1" and here.state.reason == "complaints"


def race(folder: Path, version: str, gate: Any, verdicts: Any) -> None:
    here = World(folder, first=True, canary=SHORT)
    here.clock.on_sleep = lambda: time.sleep(0.001)
    gate.wait()
    verdicts.put(here.rollout(version).verdict)


@pytest.mark.parametrize("versions", [("2", "2", "2", "2"), ("2", "3", "2", "3", "2")])
def test_of_processes_that_race_one_wins(tmp_path, versions):
    World(tmp_path, canary=SHORT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.test_rollout_crashes", "sqlalchemy.dialects.sqlite"])
    gate, said = context.Barrier(len(versions)), context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, version, gate, said)) for version in versions]
    for racer in racers:
        racer.start()
    verdicts = [said.get(timeout=PATIENCE_S) for _ in versions]
    for racer in racers:
        racer.join()
    record = Record(f"sqlite:///{tmp_path}/record.db", Clock())
    state = record.read(ENDPOINT)
    assert len(verdicts) == len(versions) and set(verdicts) <= {"promoted", "superseded"}
    assert state.phase == "idle" and state.challenger is None and state.champion.version in versions
    champions = {entry["champion"]["version"] for entry in record.history(ENDPOINT, 1000)}
    assert verdicts.count("promoted") >= len(champions - {"1"}) >= 1
