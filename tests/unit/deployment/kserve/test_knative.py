"""Knative mode: one predictor whose newest revision has a percentage, played by a few lines of Knative."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kubernetes_api import FakeApi
from tests.unit.deployment.kserve.test_standard import ONE, STATES, TWO, state
from tokka.deployment.kserve import knative
from tokka.deployment.kserve.inference_service import storage_uri
from tokka.kubernetes.api import INFERENCE_SERVICES


class Cluster:
    """A spec that changes makes a revision; `canaryTrafficPercent` splits between it and the one rolled out before."""

    def __init__(self) -> None:
        self.api, self.revisions = FakeApi(), list[tuple[str, int]]()

    @property
    def service(self):
        return self.api.objects[INFERENCE_SERVICES].get("desk")

    def step(self, asked, drained=True):
        step = knative.next_step(self.service, asked, drained)
        if step.verb == "create":
            self.api.create(INFERENCE_SERVICES, step.body)
        elif step.verb == "patch":
            self.api.patch(INFERENCE_SERVICES, "desk", step.body)
        self.roll()
        return step

    def roll(self):
        predictor = self.service["spec"]["predictor"]
        percent, uri = predictor.get("canaryTrafficPercent"), storage_uri(predictor)
        if not self.revisions or self.revisions[-1][0] != uri:
            self.revisions.append((uri, 0))
        before = next((one for one, share in self.revisions[:-1] if share), uri)
        split = {before: 100 - percent, uri: percent} if percent is not None and before != uri else {uri: 100}
        self.revisions = [(one, split.get(one, 0)) for one in split]
        traffic = [{"revisionName": one, "percent": part} for one, part in split.items()]
        status = {"latestCreatedRevision": uri, "latestReadyRevision": uri, "traffic": traffic}
        generation = self.service["metadata"]["generation"]
        self.service["status"] = {"observedGeneration": generation, "components": {"predictor": status}}

    def settle(self, asked):
        for _ in range(12):
            if not (step := self.step(asked)).verb:
                assert step.in_force
                return
        raise AssertionError(step.words)


@given(st.lists(STATES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_from_any_state_to_any_other(states):
    cluster = Cluster()
    for asked in states:
        cluster.settle(asked)
        beside = {asked.uri(asked.side): asked.percent} if asked.side else {}
        split = {asked.uri(asked.stable): 100 - asked.percent, **beside}
        assert dict(cluster.revisions) == split == knative.split_of(cluster.service)


def test_a_promotion_is_one_write_that_takes_the_percentage_away():
    cluster = Cluster()
    cluster.settle(state(ONE, TWO, 0.5))
    cluster.step(state(TWO))
    assert "canaryTrafficPercent" not in cluster.service["spec"]["predictor"]
    assert dict(cluster.revisions) == {state(TWO).uri(TWO): 100}


def test_a_challenger_that_goes_has_no_traffic_first():
    cluster = Cluster()
    cluster.settle(state(ONE, TWO, 0.5))
    cluster.step(state(ONE), drained=False)
    assert cluster.service["spec"]["predictor"]["canaryTrafficPercent"] == 0
    waits = cluster.step(state(ONE), drained=False)
    assert (waits.verb, waits.in_force) == ("", True)
    assert "goes" in cluster.step(state(ONE), drained=True).words
