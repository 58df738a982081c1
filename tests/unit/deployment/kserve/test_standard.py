"""Standard mode: from wherever a cluster is, step by step to what the record says, and nobody's request is lost."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kserve import AUTOSCALING, FakeKServe
from tests.fakes.kubernetes_api import FakeApi
from tokka.deployment.kserve import standard
from tokka.deployment.kserve.inference_service import Wanted, differences, wanted
from tokka.deployment.record.state import Revision, State
from tokka.kubernetes.api import INFERENCE_SERVICES

REVISIONS = [Revision(version=str(number), digest=str(number) * 64) for number in range(1, 5)]
ONE, TWO, *_ = REVISIONS


class Cluster:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.kserve = FakeKServe(self.api)

    def step(self, asked: Wanted, drained: bool = True) -> standard.Step:
        step = standard.next_step(self.kserve.service, asked, drained)
        if step.verb == "create":
            self.api.create(INFERENCE_SERVICES, step.body)
        elif step.verb == "patch":
            self.api.patch(INFERENCE_SERVICES, asked.endpoint, step.body)
        elif step.verb == "delete":
            self.api.delete(INFERENCE_SERVICES, asked.endpoint, step.body["metadata"]["resourceVersion"])
        return step

    def settle(self, asked: Wanted) -> list[str]:
        words = []
        while (step := self.step(asked)).verb:
            words.append(step.words)
            assert len(words) < 12, words
        assert step.in_force
        assert asked.stable is None or self.kserve.replicas == asked.replicas
        return words


def state(stable, side=None, share=0.0, phase="step"):
    challenger = {"challenger": side, "phase": phase, "share": share} if side else {}
    return wanted(State(endpoint="desk", champion=stable, **challenger), 2)


STATES = st.builds(
    lambda pair, share: state(pair[0], pair[1], share / 100),
    st.permutations(REVISIONS), st.integers(0, 99),
) | st.sampled_from(REVISIONS).map(state)  # fmt: skip


@given(st.lists(STATES, min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_from_any_state_to_any_other_nothing_is_lost_and_nothing_is_refused(states):
    cluster = Cluster()
    for asked in states:
        cluster.settle(asked)
        assert cluster.kserve.lost == [] and cluster.kserve.anew == []
        beside = {asked.uri(asked.side): asked.percent} if asked.side else {}
        assert cluster.kserve.weights() == {asked.uri(asked.stable): 100 - asked.percent, **beside}


def test_a_promotion_is_one_write_that_keeps_the_canarys_predictor():
    cluster = Cluster()
    cluster.settle(state(ONE, TWO, 0.5))
    spec = cluster.kserve.service["spec"]
    canary, old = spec["canary"][0]["predictor"], spec["predictor"]
    assert cluster.step(state(TWO)).verb == "patch"
    spec = cluster.kserve.service["spec"]
    assert differences(canary | {"minReplicas": 4}, spec["predictor"]) == []
    assert [(one["trafficPercent"], differences(one["predictor"], old)) for one in spec["canary"]] == [
        (0, ["minReplicas"])
    ]
    assert cluster.kserve.lost == [] and cluster.kserve.anew == []


def test_who_serves_grows_by_its_load_and_who_stands_beside_does_not():
    cluster = Cluster()
    cluster.settle(state(ONE)._replace(maximum=6))
    grows = {"minReplicas": 2, "maxReplicas": 6, "scaleMetric": "cpu", "scaleTarget": 70}
    assert differences(grows, cluster.kserve.service["spec"]["predictor"]) == []
    cluster.settle(state(ONE, TWO, 0.5)._replace(maximum=6))
    canary = cluster.kserve.service["spec"]["canary"][0]["predictor"]
    assert canary["minReplicas"] == 2 and not AUTOSCALING & canary.keys()


def test_a_canary_that_is_ready_takes_no_pod_from_who_serves():
    cluster = Cluster()
    cluster.settle(state(ONE))
    cluster.kserve.ready = lambda digest: digest != TWO.digest
    cluster.settle(state(ONE, TWO))
    assert cluster.kserve.service["spec"]["predictor"]["minReplicas"] == 2, "no pod for what is not there"
    cluster.kserve.ready = lambda digest: True
    cluster.kserve.run()
    room = cluster.step(state(ONE, TWO))
    assert room.in_force and cluster.kserve.service["spec"]["predictor"]["minReplicas"] == 4
    cluster.kserve.ready = lambda digest: digest != TWO.digest
    cluster.kserve.run()
    assert cluster.step(state(ONE, TWO)).verb == "", "a pod that is killed changes nothing"


def test_a_version_that_goes_has_no_traffic_first_then_drains_then_goes():
    cluster = Cluster()
    cluster.settle(state(ONE, TWO, 0.5))
    alone = state(ONE)
    first = cluster.step(alone, drained=False)
    assert "no more traffic" in first.words and not first.in_force
    draining = cluster.step(alone, drained=False)
    assert (draining.verb, draining.in_force) == ("", True), "everybody is on the champion"
    assert len(cluster.kserve.weights()) == 2
    assert "goes" in cluster.step(alone, drained=True).words
    assert list(cluster.kserve.weights()) == [alone.uri(ONE)]


def test_what_the_controller_has_not_seen_is_not_taken_for_done():
    cluster = Cluster()
    cluster.settle(state(ONE, TWO, 0.5))
    cluster.step(state(ONE))
    cluster.kserve.service["status"]["canaryStatuses"][0]["trafficPercent"] = 50
    waits = standard.next_step(cluster.kserve.service, state(ONE), True)
    assert (waits.verb, waits.in_force) == ("", False)


def test_who_is_to_take_over_is_waited_for_until_it_can_answer():
    cluster = Cluster()
    cluster.kserve.ready = lambda digest: digest != TWO.digest
    cluster.settle(state(ONE))
    assert "without traffic" in cluster.step(state(TWO)).words
    waits = cluster.step(state(TWO))
    assert (waits.verb, waits.in_force) == ("", False)
    cluster.kserve.ready = lambda digest: True
    cluster.kserve.run()
    assert "promoted" in cluster.step(state(TWO)).words


def test_an_annotation_that_somebody_took_away_comes_back_before_a_canary():
    cluster = Cluster()
    cluster.settle(state(ONE))
    cluster.api.edit(INFERENCE_SERVICES, "desk", {"metadata": {"annotations": None}})
    assert "deploymentMode" in cluster.step(state(ONE, TWO)).words
    cluster.settle(state(ONE, TWO))


def test_an_endpoint_that_serves_nobody_is_deleted():
    cluster = Cluster()
    cluster.settle(state(ONE))
    nothing = wanted(State(endpoint="desk"), 2)
    assert cluster.step(nothing).verb == "delete"
    assert cluster.kserve.service is None and cluster.step(nothing).in_force
