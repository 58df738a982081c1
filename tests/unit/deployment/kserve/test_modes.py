"""Which mode can split, and what is said where none can."""

import pytest

from tests.fakes.kserve import FakeKServe
from tests.fakes.kubernetes_api import FakeApi, Fault
from tokka.deployment.kserve.modes import GATEWAY_API, KNATIVE, Facts, choose, look
from tokka.errors import Refused
from tokka.kubernetes.api import CONFIG_MAPS, DEFINITIONS

BOTH = {GATEWAY_API, KNATIVE}


@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        (Facts(True, True, True, "Standard", BOTH), "Standard"),
        (Facts(True, True, True, "RawDeployment", {GATEWAY_API}), "Standard"),
        (Facts(True, True, True, "Knative", BOTH), "Knative"),
        (Facts(True, True, True, "Serverless", {GATEWAY_API}), "Standard"),
        (Facts(True, False, True, "Standard", BOTH), "Knative"),
        (Facts(True, True, False, "Standard", BOTH), "Knative"),
        (Facts(True, True, None, None, {GATEWAY_API}), "Standard"),
    ],
)
def test_the_clusters_own_default_where_it_can_split_else_the_other(facts, mode):
    assert choose(facts) == mode


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(False, False, None, None, set()), "has no KServe"),
        (Facts(True, False, True, "Standard", {GATEWAY_API}), "older than 0.20"),
        (Facts(True, True, True, "Standard", set()), "Gateway API"),
        (Facts(True, True, False, "Standard", {GATEWAY_API}), "enableGatewayApi is not true"),
    ],
)
def test_where_none_can_it_is_refused_with_what_to_change(facts, words):
    with pytest.raises(Refused, match=words) as error:
        choose(facts)
    assert "install" in error.value.hint


def test_what_a_cluster_says_of_itself():
    api = FakeApi()
    FakeKServe(api)
    assert look(api) == Facts(True, True, True, "Standard", api.known_groups)
    api.objects[CONFIG_MAPS]["inferenceservice-config"]["data"]["ingress"] = '{"enableGatewayApi": false}'
    assert look(api).gateway is False
    schema = api.objects[DEFINITIONS]["inferenceservices.serving.kserve.io"]["spec"]["versions"][0]["schema"]
    del schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["canary"]
    assert look(api).canary is False


def test_what_this_account_may_not_see_is_not_taken_for_a_no():
    api = FakeApi()
    FakeKServe(api)
    api.faults["get"] = [Fault.DENIED, Fault.DENIED]
    found = look(api)
    assert (found.installed, found.canary, found.gateway) == (True, True, None)
    assert choose(found) == "Standard"
