"""What a rollout collects about its traffic, step by step."""

import pytest

from tests.fakes.world import World, digest_of
from tests.unit.deployment.test_rollout import SHORT
from tokka.deployment.collector import EvidenceCollector
from tokka.deployment.record.state import Revision
from tokka.request_log.log import Writer


@pytest.fixture
def here(tmp_path):
    return World(tmp_path, canary=SHORT)


def test_who_goes_on_with_a_watch_does_not_take_its_failures_for_the_usual_ones(here):
    """The driver dies after its promotion: the next one still splits the requests at the promotion."""
    state = here.record.compare_and_set(
        here.state, champion=Revision(version="2", digest=digest_of("2")), phase="watch", rollout="r"
    )
    records = [
        {"kind": "request", "prediction_id": str(at), "time": state.promoted + at, "status": 200, "share": 0.0}
        for at in (-2, -1, 1, 2, 3)
    ]
    here.clock.sleep(10)
    resumed = here.record.compare_and_set(state)
    assert (resumed.promoted, resumed.updated) == (state.promoted, state.updated + 10)
    collector = EvidenceCollector(here.rollout_of(open_log=lambda since: lambda: records))
    seen = collector.gather(resumed)
    assert (seen.before.size, seen.after.size) == (2, 3)


def on_a_step(here):
    """Half of the traffic goes to version 2: the state, who gathers, and where the rows go that it replays."""
    state = here.record.compare_and_set(
        here.state, challenger=Revision(version="2", digest=digest_of("2")), phase="step", share=0.5, rollout="r"
    )
    here.target.apply(state)
    sent = []
    collector = EvidenceCollector(here.rollout_of(traffic=sent.append))
    return state, collector, sent


def test_live_traffic_that_fills_its_step_and_proves_too_little_is_helped_after_a_while(here):
    state, collector, sent = on_a_step(here)
    for _ in range(2):
        # Three requests a second: enough to fill a step of a hundred within a minute, over and over.
        here.target.send([{"text": f"message {number}"} for number in range(450)], rate=3.0, replayed=False)
        collector.gather(state)
    assert [len(rows) for rows in sent] == [here.params.canary.step_requests]


@pytest.mark.parametrize(("users", "helped"), [(3, True), (450, False)])
def test_a_few_users_fill_no_step_however_often_they_ask(here, users, helped):
    state, collector, sent = on_a_step(here)
    here.target.send([{"text": f"message {number}"} for number in range(450)], rate=3.0, replayed=False)
    requests = [record for record in here.target.log if record["kind"] == "request"]
    for number, record in enumerate(requests):
        record["key"] = str(number % users)
    collector.gather(state)
    assert bool(sent) == helped


def test_the_request_log_is_read_on(here):
    """Without another one, it is that of the home."""
    state, _, _ = on_a_step(here)
    collector = EvidenceCollector(here.rollout_of(open_log=None, traffic=None))
    writer = Writer(here.settings.home / "requests", "test")
    assert collector.gather(state).traffic.size == 0

    def add(*names: str) -> None:
        facts = {"kind": "request", "time": state.started + 1, "status": 200, "share": 0.5}
        writer.append([{**facts, "prediction_id": name} for name in names])

    add("a", "b")
    assert collector.gather(state).traffic.size == 2
    add("c")
    assert collector.gather(state).traffic.size == 3
    writer.close()
