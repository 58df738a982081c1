"""The REST routes of a worker: each path with its method and its answer, and what describes them."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokka.deployment.kserve.predictors import Outcome, read_counts
from tokka.serving.options import WorkerOptions
from tokka.serving.predict_api import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_TOP_K
from tokka.serving.rest import RestApp, describe_api
from tokka.serving.service import Service
from tokka.serving.v2_json import InferRequest

OPTIONS = WorkerOptions(model_dir=Path("model"), ready_file=Path("ready.json"), name="helpdesk", version="7")
ENGINE = SimpleNamespace(task="classification", pairs=True, digest="d", predict=None, rows_per_run=lambda batch: batch)


def ask(path, method="GET", body=b"", **headers):
    """(status, JSON, headers) of an answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "path": path, "method": method,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(RestApp(Service(ENGINE, OPTIONS, None))(scope, receive, send))
    start, content = sent
    return start["status"], json.loads(content["body"]), {name.decode(): value for name, value in start["headers"]}


@pytest.mark.parametrize(
    "path, answer",
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["helpdesk"]}),
        ("/v2/models/helpdesk/ready", {"name": "helpdesk", "ready": True}),
        ("/v2/models/helpdesk/versions/7/ready", {"name": "helpdesk", "ready": True}),
        ("/health", {"status": "ok"}),
    ],
)
def test_what_is_read_is_answered_with_the_version_that_answers(path, answer):
    status, found, headers = ask(path)
    assert (status, found) == (200, answer)
    assert (headers["x-tokka-version"], headers["x-tokka-canary"]) == (b"7", b"0")
    assert headers["content-type"] == b"application/json"


def test_metadata():
    assert ask("/v2")[1].keys() == {"name", "version", "extensions"}
    found = ask("/v2/models/helpdesk")[1]
    assert (found["name"], found["versions"], found["platform"]) == ("helpdesk", ["7"], "")
    assert found["inputs"] == [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("text", "text_pair")]
    assert [one["datatype"] for one in found["outputs"]] == ["BYTES", "BYTES", "FP64"]


@pytest.mark.parametrize(
    "path, method, status",
    [
        ("/predict", "GET", 405),
        ("/feedback", "PUT", 405),
        ("/v2/models/helpdesk/infer", "GET", 405),
        ("/v2/models/helpdesk", "POST", 405),
        ("/v2", "POST", 405),
        ("/v2/models/helpdesk/versions//infer", "POST", 404),
        ("/v2/models/helpdesk/versions/8/infer", "POST", 404),
        ("/v2/models/another/infer", "POST", 404),
        ("/v2/models/helpdesk/more", "GET", 404),
        ("/v2/repository/index", "POST", 404),
        ("/docs", "GET", 404),
    ],
)
def test_a_refusal_has_a_sentence_and_the_version_that_refuses(path, method, status):
    found, tree, headers = ask(path, method)
    assert found == status and isinstance(tree["error"], str) and set(tree) == {"error"}
    assert headers["x-tokka-version"] == b"7"


def test_a_failure_is_503_and_says_nothing_of_itself(caplog):
    status, tree, headers = ask("/predict", "POST", b'{"text": "a", "text_pair": "b"}', x_request_id="mine")
    assert (status, tree, "retry-after" in headers) == (503, {"error": "the model server could not answer"}, False)
    (logged,) = [record for record in caplog.records if record.message == "a request failed"]
    assert (logged.prediction_id, logged.path) == ("mine", "/predict")


def test_the_description_has_the_limits_and_shapes_of_the_code():
    tree = describe_api(jobs=True)
    request = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = tree["components"]["schemas"]
    assert {**request.pop("$defs"), "InferRequest": request}.items() <= schemas.items()
    predict = content(tree["paths"]["/predict"]["post"]["requestBody"])["properties"]
    assert predict["text"]["maxLength"] == predict["texts"]["items"]["maxLength"] == MAX_TEXT_CHARACTERS
    assert predict["top_k"]["maximum"] == MAX_TOP_K
    feedback = content(tree["paths"]["/feedback"]["post"]["requestBody"])["properties"]
    assert feedback["label"]["maxLength"] == MAX_LABEL_CHARACTERS


def content(part):
    return part["content"]["application/json"]["schema"]


def test_no_request_s_schema_is_one_of_several():
    """Clients that are generated from such a schema cannot send it."""
    bodies = [
        operation["requestBody"]
        for item in describe_api(jobs=True)["paths"].values()
        for operation in item.values()
        if "requestBody" in operation
    ]
    assert len(bodies) >= 4
    assert not [body for body in bodies if any(word in json.dumps(body) for word in ("oneOf", "anyOf", "allOf"))]


@pytest.mark.parametrize("jobs", [False, True])
def test_the_description_says_how_an_answer_may_wait_where_it_may(jobs):
    tree = describe_api(jobs=jobs)
    assert ("/jobs/{id}" in tree["paths"]) == jobs
    for path in ("/predict", "/v2/models/{model_name}/infer"):
        operation = tree["paths"][path]["post"]
        assert ("202" in operation["responses"]) == jobs
        names = {one["name"] for one in operation["parameters"]}
        assert "x-user-id" in names and ({"Prefer", "Idempotency-Key"} <= names) == jobs


def test_a_pod_counts_its_predictions_by_version_route_and_status_and_not_the_shadows():
    app = RestApp(Service(ENGINE, OPTIONS.model_copy(update={"metrics": True}), None))

    def call(path, method, **headers):
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"{}"}

        async def send(message):
            sent.append(message)

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        asyncio.run(app({"type": "http", "path": path, "method": method, "headers": pairs}, receive, send))
        return sent[1]["body"].decode()

    call("/predict", "POST")
    call("/predict", "POST")
    call("/predict", "POST", x_tokka_shadow="1")
    call("/v2/models/helpdesk/infer", "GET")
    call("/v2/health/ready", "GET")
    counts = read_counts(call("/metrics", "GET"), slow_ms=250.0)
    assert counts == {Outcome(400, False): 2, Outcome(405, False): 1}
    assert ask("/metrics")[0] == 404, "behind a gateway, that counts"
