"""Pods: which model each serves, and what its page of metrics says."""

from tokka.deployment.kserve.predictors import SHADOW, Outcome, pod_of, read_counts
from tokka.serving import service

URI = f"tokka://desk/1/{'a' * 64}"
READY = [{"type": "Ready", "status": "True"}]


def pod(**meta):
    status = {"podIP": "10.0.0.1", "conditions": READY, "containerStatuses": [{"restartCount": 2}]}
    return {"metadata": {"name": "p", "uid": "u", **meta}, "spec": {}, "status": status}


def test_the_mark_of_a_shadow_is_the_servers():
    assert SHADOW == service.SHADOW


def test_a_pod_is_known_by_the_address_that_its_storage_container_was_given():
    found = pod_of(pod(annotations={"internal.serving.kserve.io/storage-initializer-sourceuri": URI}))
    assert (found.uri, found.address, found.ready, found.life) == (URI, "10.0.0.1", True, "u/2")
    by_arguments = pod() | {"spec": {"initContainers": [{"args": [URI, "/mnt/models"]}]}}
    assert pod_of(by_arguments).uri == URI
    assert pod_of(pod()).uri == ""


def test_a_pod_that_ends_is_not_ready():
    assert not pod_of(pod(deletionTimestamp="2026-01-01T00:00:00Z")).ready


def test_counts_by_status_and_by_the_bucket_that_holds_the_limit():
    page = "\n".join([
        "# TYPE tokka_requests counter", "# TYPE tokka_request_duration_seconds histogram",
        'tokka_requests_total{version="1",route="predict",status="200"} 10.0',
        'tokka_requests_total{version="1",route="predict",status="503"} 2.0',
        'tokka_requests_total{version="1",route="feedback",status="200"} 5.0',
        'tokka_request_duration_seconds_bucket{le="0.1",version="1",route="predict",status="200"} 4.0',
        'tokka_request_duration_seconds_bucket{le="0.25",version="1",route="predict",status="200"} 7.0',
        'tokka_request_duration_seconds_bucket{le="+Inf",version="1",route="predict",status="200"} 10.0',
        'tokka_request_duration_seconds_bucket{le="0.1",version="1",route="predict",status="503"} 2.0',
        'tokka_request_duration_seconds_bucket{le="0.25",version="1",route="predict",status="503"} 2.0',
        'tokka_request_duration_seconds_bucket{le="+Inf",version="1",route="predict",status="503"} 2.0', "",
    ])  # fmt: skip
    assert read_counts(page, 250.0) == {Outcome(200, False): 7, Outcome(200, True): 3, Outcome(503, False): 2}
    assert read_counts(page, 200.0) == read_counts(page, 250.0)
    assert read_counts(page, 60_000.0) == {Outcome(200, False): 10, Outcome(503, False): 2}
