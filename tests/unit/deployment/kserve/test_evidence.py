"""Evidence of a cluster: nothing before the split that the pods have counted is the ordered one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.world import Clock
from tokka.deployment.kserve.evidence import SAMPLE, ClusterLog, Meter, Ordered, Split, fits, tells
from tokka.deployment.kserve.predictors import Outcome, Pod
from tokka.deployment.traffic_columns import TrafficColumns

ONE, TWO = f"tokka://desk/1/{'a' * 64}", f"tokka://desk/2/{'b' * 64}"
PODS = [Pod("a", "a/0", ONE, "10.0.0.1", True), Pod("b", "b/0", TWO, "10.0.0.2", True)]
FINE, FAILED, SLOW = Outcome(200, False), Outcome(503, False), Outcome(200, True)
ORDERED = Ordered(7, TWO, 0.25)


class Counting:
    def __init__(self):
        self.now = {"a": Counter(), "b": Counter()}

    def counts(self, pod, slow_ms):
        return Counter(self.now[pod.name])

    def serve(self, one, two, outcome=FINE):
        self.now["a"][outcome] += one
        self.now["b"][outcome] += two


@pytest.fixture
def here():
    counting = Counting()
    meter = Meter(counting, Clock(), 250.0)
    meter.look(PODS, ORDERED)
    meter.look(PODS, ORDERED)
    return counting, meter


def test_requests_of_a_split_that_is_as_ordered_are_given_out_mixed(here):
    counting, meter = here
    counting.serve(75, 20)
    counting.serve(0, 5, FAILED)
    counting.serve(0, 2, SLOW)
    meter.look(PODS, ORDERED)
    columns = TrafficColumns(challenger="2", slow_ms=250.0)
    rows = meter.take()
    columns.take(rows)
    traffic = columns.traffic()
    assert (traffic.size, traffic.canary.sum(), traffic.failed.sum(), traffic.slow.sum()) == (102, 27, 5, 2)
    assert set(traffic.share) == {0.25}
    sides = [row["assigned"] for row in rows]
    assert sides != sorted(sides) and sides != sorted(sides, reverse=True)
    assert meter.take() == []


def test_too_few_requests_tell_nothing_yet_and_are_kept(here):
    counting, meter = here
    counting.serve(6, 2)
    meter.look(PODS, ORDERED)
    assert meter.take() == []
    counting.serve(70, 22)
    meter.look(PODS, ORDERED)
    assert len(meter.take()) == 100


def test_a_split_that_is_not_as_ordered_gives_nothing_and_is_shown(here):
    counting, meter = here
    counting.serve(200, 0)
    meter.look(PODS, ORDERED)
    assert meter.take() == [] and meter.misfit == Split(200, 0)
    counting.serve(150, 50)
    meter.look(PODS, ORDERED)
    assert meter.misfit is None and len(meter.take()) == 200, "of the second window alone"


def test_what_came_while_the_split_changed_counts_for_neither(here):
    counting, meter = here
    counting.serve(75, 25)
    meter.look(PODS, ORDERED._replace(generation=8, share=0.5))
    assert meter.take() == []
    counting.serve(50, 50)
    meter.look(PODS, None)
    counting.serve(50, 50)
    meter.look(PODS, ORDERED._replace(generation=8, share=0.5))
    assert meter.take() == []


def test_a_pod_that_starts_anew_counts_on(here):
    counting, meter = here
    counting.now["b"] = Counter()
    again = [PODS[0], PODS[1]._replace(life="b/1")]
    meter.look(again, ORDERED)
    counting.serve(75, 25)
    meter.look(again, ORDERED)
    assert len(meter.take()) == 100


@given(st.integers(0, 5000), st.integers(1, 99))
def test_the_expected_split_always_fits(requests, percent):
    share = percent / 100
    assert fits(Split(requests, round(requests * share)), share)
    if tells(requests, share):
        assert not fits(Split(requests, 0), share) and not fits(Split(requests, requests), share)


def test_the_shadow_is_offered_the_newest_logged_inputs_and_those_that_a_label_came_for(here):
    _, meter = here
    clock, parts = Clock(), []
    log = ClusterLog(meter, lambda: parts.pop(0), clock, clock.time() - 3600)
    rows = [
        {"kind": "prediction", "prediction_id": f"{n}", "time": clock.time() + n / 1e4, "version": "1", "text": f"{n}"}
        for n in range(2000)
    ]
    told = {"kind": "feedback", "prediction_id": "5", "time": clock.time() + 3, "label": "b"}
    twice = {**told, "label": "c"}
    shadows = {**rows[-1], "prediction_id": "s", "shadow": True}
    parts += [[*rows, shadows], [told, twice, {**told, "prediction_id": "made up"}]]
    found = [one["prediction_id"] for one in log()]
    assert found == [f"{n}" for n in range(1999, 1999 - SAMPLE, -1)]
    clock.now += 20
    later = log()
    assert [one["prediction_id"] for one in later if one["kind"] == "prediction"] == ["5"]
    assert [one["prediction_id"] for one in later if one["kind"] == "request"] == ["5"], "once"


def test_a_label_tells_its_request_apart_which_is_then_counted_once(here):
    counting, meter = here
    clock = Clock()
    archive = [
        {"kind": "prediction", "prediction_id": "p", "time": clock.time() + 1, "version": "2", "label": "a"},
        {"kind": "feedback", "prediction_id": "p", "time": clock.time() + 2, "label": "b"},
    ]
    log = ClusterLog(meter, lambda: archive, clock, 0.0)
    records = log()
    counting.serve(75, 25)
    meter.look(PODS, ORDERED)
    columns = TrafficColumns(challenger="2", slow_ms=250.0)
    columns.take([*records, *log()])
    traffic = columns.traffic()
    assert (traffic.size, traffic.canary.sum()) == (100, 25)
    assert traffic.wrong[traffic.wrong == 1].size == 1
