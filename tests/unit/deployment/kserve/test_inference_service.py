"""What is asked of an InferenceService: read by KServe's own models, and only what is ours compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve import models

from tests.fakes.kubernetes_api import merged, require_known
from tokka.deployment.kserve.inference_service import (
    differences,
    merge_patch,
    predictor,
    require_name,
    wanted,
    whole,
)
from tokka.deployment.record.state import Revision, State
from tokka.errors import Refused

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
NAMES = st.sampled_from("abcd")
LEAVES = st.integers(0, 3) | st.text("ab", max_size=2)
JSON = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner), max_leaves=8)
OBJECTS = st.dictionaries(NAMES, JSON)


def test_kserves_own_models_know_every_field():
    asked = wanted(State(endpoint="desk", champion=ONE), 2)
    made = whole(asked, predictor(asked, ONE), "Standard")
    require_known(made, models.V1beta1InferenceService)
    model = made["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"tokka://desk/1/{'a' * 64}"
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


@pytest.mark.parametrize(
    ("state", "stable", "side", "percent"),
    [
        (State(endpoint="desk", champion=ONE), ONE, None, 0),
        (State(endpoint="desk", champion=ONE, challenger=TWO, phase="step", share=0.25), ONE, TWO, 25),
        (State(endpoint="desk", champion=ONE, challenger=TWO, phase="shadow"), ONE, TWO, 0),
        (State(endpoint="desk", champion=TWO, previous=ONE, phase="watch"), TWO, ONE, 0),
        (State(endpoint="desk", champion=TWO, previous=ONE), TWO, None, 0),
        (State(endpoint="desk", challenger=ONE, phase="warm_up"), ONE, None, 0),
        (State(endpoint="desk"), None, None, 0),
    ],
)
def test_who_serves_and_who_stands_beside(state, stable, side, percent):
    asked = wanted(state, 2)
    assert (asked.stable, asked.side, asked.percent) == (stable, side, percent)


def test_a_share_of_half_a_percent_is_refused():
    with pytest.raises(Refused, match="whole percents"):
        wanted(State(endpoint="desk", champion=ONE, challenger=TWO, phase="step", share=0.125), 2)


@pytest.mark.parametrize("name", ["Desk", "2desk", "desk_1", "-desk", "desk-", "", "d" * 41])
def test_a_name_that_no_service_can_have_is_refused(name):
    with pytest.raises(Refused, match=r"registry\.model"):
        require_name(name)
    require_name("help-desk2")


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_makes_one_object_of_another(old, new):
    assert merged(old, merge_patch(old, new)) == new


@given(OBJECTS, OBJECTS)
def test_what_others_added_is_no_difference(asked, more):
    assert differences(asked, merged(more, asked)) == []


def test_differences_are_named_by_their_path():
    found = {"predictor": {"minReplicas": 0, "name": "v1"}, "canary": [{"trafficPercent": 3}]}
    asked = {"predictor": {"minReplicas": 2}, "canary": [{"trafficPercent": 5}]}
    assert differences(asked, found) == ["predictor.minReplicas", "canary[0].trafficPercent"]
    assert differences({"canary": [1, 2]}, {"canary": [1]}) == ["canary"]
