"""Projections of the record: the registry's aliases, and what still differs."""

import pytest

from tests.fakes.world import ADMITTED, FakeRegistry, VersionTags
from tokka.deployment.reconcile import Difference, Silence, plan, project_aliases
from tokka.deployment.state import Revision, State
from tokka.deployment.targets.base import Observed

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
    assert [one.what for one in changed] == ["alias champion", "alias challenger", "alias previous"]
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


def test_nothing_differs_when_all_serve():
    ready = (ONE.digest, TWO.digest)
    assert plan(ROLLING, Observed(generation=4, share=0.25, ready=ready)) == []
    assert plan(IDLE, Observed(generation=3, ready=ready)) == []
    assert plan(State(endpoint="desk"), None) == []


def test_each_difference_is_named():
    found = plan(ROLLING, Observed(generation=3, share=0.05, ready=(ONE.digest,)))
    assert found == [
        Difference("generation", "4", "3"),
        Difference("share", "25.00%", "5.00%"),
        Difference("challenger 2", "ready", "not ready"),
    ]
    assert plan(IDLE, None) == [Difference("stack", "running", "no answer")]
