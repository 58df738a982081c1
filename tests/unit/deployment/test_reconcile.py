"""Projections of the record: the registry's aliases and verdicts, and who is abandoned."""

import subprocess
import sys

import pytest

from tests.fakes.world import ADMITTED, FakeRegistry, VersionTags
from tokka.deployment.reconcile import (
    Silence,
    is_abandoned,
    keep_aliases,
    project_aliases,
    show_last_verdict,
)
from tokka.deployment.record import owner
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Owner, Revision, State

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
IDLE = State(endpoint="desk", generation=3, champion=TWO, previous=ONE)
ROLLING = State(endpoint="desk", generation=4, champion=ONE, challenger=TWO, phase="step", share=0.25)


@pytest.fixture
def registry():
    fake = FakeRegistry()
    fake.of = {version: VersionTags(dict(ADMITTED)) for version in ("1", "2", "3")}
    return fake


def test_aliases_become_what_the_record_says_and_stay_so(registry):
    registry.alias = {"champion": "1", "challenger": "2"}
    changed = project_aliases(IDLE, registry)
    assert registry.alias == {"champion": "2", "previous": "1"}
    assert changed == ["champion", "challenger", "previous"]
    assert project_aliases(IDLE, registry) == []
    project_aliases(ROLLING, registry)
    assert registry.alias == {"champion": "1", "challenger": "2"}


def test_a_version_that_waits_for_its_rollout_stays_the_challenger(registry):
    registry.alias = {"champion": "2", "previous": "1", "challenger": "3"}
    assert project_aliases(IDLE, registry) == []
    registry.of["3"].tags["tokka.canary"] = "rolled_back"
    project_aliases(IDLE, registry)
    assert registry.alias == {"champion": "2", "previous": "1"}


def test_aliases_of_an_endpoint_that_serves_nobody_are_removed(registry):
    registry.alias = {"champion": "1", "previous": "2"}
    project_aliases(State(endpoint="desk"), registry)
    assert registry.alias == {}


def test_silence_is_counted_by_our_own_clock():
    """A machine that slept for an hour wakes up with an old sign of life, and gives everybody their time."""
    now = [0.0]
    silence = Silence(lambda: now[0])
    assert silence.seconds(1000.0) == 0.0
    now[0] = 50.0
    assert silence.seconds(1000.0) == 50.0
    assert silence.seconds(4600.0) == 0.0
    now[0] = 120.0
    assert (silence.seconds(4600.0), silence.seconds(None)) == (70.0, 0.0)


def test_who_was_fast_to_read_and_slow_to_write_looks_again(tmp_path, registry, monkeypatch):
    """Between its look at the record and its first alias another rollout is promoted, and shows itself."""
    record = Record(f"sqlite:///{tmp_path}/record.db")
    record.compare_and_set(record.read("desk"), champion=ONE)
    set_alias = registry.set_alias

    def late(alias, version):
        monkeypatch.undo()
        moved = record.compare_and_set(record.read("desk"), champion=TWO, previous=ONE)
        project_aliases(moved, registry)
        set_alias(alias, version)

    monkeypatch.setattr(registry, "set_alias", late)
    keep_aliases(record, "desk", registry)
    assert registry.alias == {"champion": "2", "previous": "1"}
    registry.alias["champion"] = "3"
    assert keep_aliases(record, "desk", registry) == ["champion"]
    assert registry.alias["champion"] == "2"


def test_an_owner_that_was_killed_is_known_at_once_and_one_that_hangs_by_its_silence():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child_owner = Owner(place=owner.place(), pid=child.pid, started=owner.process.identity(child.pid))
    state = ROLLING.model_copy(update={"owner": child_owner})
    assert not is_abandoned(state, 59.0) and is_abandoned(state, 61.0)
    child.kill()
    child.communicate()
    assert is_abandoned(state, 0.0)
    elsewhere = child_owner.model_copy(update={"place": "another machine"})
    assert not is_abandoned(state.model_copy(update={"owner": elsewhere}), 59.0)
    assert not is_abandoned(state.model_copy(update={"phase": "ab"}), 59.0), "a test outlives whoever started it"
    assert not is_abandoned(IDLE.model_copy(update={"owner": child_owner}), 99.0)


@pytest.mark.parametrize(
    ("phase", "action", "verdict"),
    [("step", "roll_back", "rolled_back"), ("watch", "finish", "promoted"), ("watch", "roll_back", "rolled_back"),
     ("ab", "finish", "rolled_back"), ("ab", "promote", "promoted")],
)  # fmt: skip
def test_a_version_whose_driver_died_is_told_what_became_of_it(tmp_path, registry, phase, action, verdict):
    record = Record(f"sqlite:///{tmp_path}/record.db")
    state = record.compare_and_set(record.read("desk"), champion=ONE, rollout="r")
    said = {"version": "2", "phase": phase, "reasons": ["why"]}
    record.add_decision(state, {**said, "action": action})
    record.add_decision(state, {**said, "action": "wait"})
    registry.of["2"].tags["tokka.canary"] = "held"
    assert show_last_verdict(record, "desk", registry) == "2"
    assert registry.of["2"].tags["tokka.canary"] == verdict
    assert show_last_verdict(record, "desk", registry) is None
