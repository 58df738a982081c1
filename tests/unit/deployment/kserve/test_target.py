"""The target over a fake API: what it refuses to touch, what it says of the split, and whom it asks for the shadow."""

from collections import Counter

import pytest

from tests.fakes.kserve import FakeKServe, FakePredictors
from tests.fakes.kubernetes_api import FakeApi
from tests.fakes.world import Clock
from tokka.deployment.kserve.predictors import Outcome
from tokka.deployment.kserve.target import KServeTarget, Plan
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer
from tokka.errors import Refused, TokkaError
from tokka.kubernetes.api import INFERENCE_SERVICES, Conflict

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
ALONE = State(endpoint="desk", generation=1, champion=ONE)
HALF = State(endpoint="desk", generation=2, champion=ONE, challenger=TWO, phase="step", share=0.5)


class Here:
    def __init__(self):
        self.clock, self.api = Clock(), FakeApi()
        self.kserve = FakeKServe(self.api)
        self.predictors = FakePredictors(lambda digest, rows: [Answer(label=digest[:1])] * len(rows))
        self.target = self.new()

    def new(self):
        return KServeTarget("desk", "Standard", Plan(), self.api, self.predictors, self.clock)

    def settle(self, state):
        for _ in range(6):
            self.target.apply(state)
            self.kserve.run()

    @property
    def service(self):
        return self.api.objects[INFERENCE_SERVICES]["desk"]


@pytest.fixture
def here():
    return Here()


def test_what_is_not_ours_is_not_touched(here):
    here.settle(ALONE)
    here.service["metadata"]["labels"] = {}
    before = here.service
    with pytest.raises(Refused, match="not Tokka's"):
        here.target.apply(HALF)
    assert here.service == before


def test_who_is_behind_does_not_undo_what_a_newer_leader_wrote(here):
    here.settle(ALONE)
    here.settle(HALF)
    with pytest.raises(Conflict, match="generation 2"):
        here.new().apply(ALONE)
    assert here.kserve.weights() == {f"tokka://desk/1/{'a' * 64}": 50, f"tokka://desk/2/{'b' * 64}": 50}


def test_a_cluster_that_drops_the_canary_without_a_word_is_refused(here):
    here.settle(ALONE)

    def drop(old, new):
        new["spec"].pop("canary", None)

    here.api.admit = drop
    with pytest.raises(Refused, match=r"dropped spec\.canary"):
        here.target.apply(HALF)


def test_the_observed_split_is_the_one_that_the_pods_have_counted(here):
    here.settle(ALONE)
    here.settle(HALF)
    here.target.observe()
    here.target.observe()
    assert here.target.observe().share == 0.5
    here.predictors.counted = {f"tokka://desk/1/{'a' * 64}": Counter({Outcome(200, False): 200})}
    observed = here.target.observe()
    assert (observed.generation, observed.share) == (2, 0.0)


def test_what_is_not_in_force_is_not_said_to_be(here):
    here.target.apply(ALONE)
    del here.service["status"]["address"]
    assert here.target.observe().generation == -1


def test_the_shadow_asks_pods_of_a_revision_at_a_bounded_rate(here):
    here.settle(ALONE)
    began = here.clock.now
    answers = here.target.infer(ONE.digest, [{"text": "x"}] * 41)
    assert [one.label for one in answers] == ["a"] * 41
    assert here.clock.now - began == pytest.approx(2.0)
    with pytest.raises(TokkaError, match="no pod"):
        here.target.infer(TWO.digest, [{"text": "x"}])


def test_a_pod_that_broke_off_says_nothing_of_its_model(here):
    here.settle(ALONE)
    ask, broken = here.predictors.ask, []

    def once(pod, rows):
        if not broken:
            broken.append(pod.name)
            raise TokkaError("broke off")
        return ask(pod, rows)

    here.predictors.ask = once
    assert here.target.infer(ONE.digest, [{"text": "x"}])[0].label == "a"
