"""What the endpoint takes and gives, through the gateway: both plain routes, the Open Inference Protocol, refusals."""

import re

import httpx
import pytest

from tests.fixtures.waiting import LOCAL, PATIENCE_S
from tokka.gateway.client import predict


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", b"{", 400),
        ("/predict", b"[]", 400),
        ("/predict", b'{"text": 3}', 400),
        ("/predict", b'{"text": "a", "texts": ["b"]}', 400),
        ("/predict", b'{"text": "\\ud800"}', 400),
        ("/predict", b'{"text": "a", "text_pair": "b"}', 400),
        ("/predict", b'{"txt": "a"}', 400),
        ("/predict", b"[" * 100_000, 400),
        ("/predict", b'{"texts": [' + b",".join([b'"a"'] * 257) + b"]}", 422),
        ("/predict", b'{"text": "' + b"a" * 20_001 + b'"}', 422),
        ("/predict", b"a" * 1_000_001, 413),
        ("/feedback", b'{"prediction_id": "x"}', 400),
        ("/feedback", b'{"prediction_id": "x", "value": 1e999}', 400),
        ("/feedback", b'{"prediction_id": "../x", "label": "a"}', 400),
        ("/v2/models/helpdesk/infer", b"{", 400),
        ("/v2/models/helpdesk/infer", b'{"inputs": []}', 400),
        ("/v2/models/nobody/infer", b'{"inputs": []}', 404),
        ("/v2/models/helpdesk/versions/99/infer", b'{"inputs": []}', 404),
        (
            "/v2/models/helpdesk/infer",
            b'{"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1]}]}',
            400,
        ),
        ("/v2/repository/models/helpdesk/unload", b"", 404),
        ("/metrics", b"", 404),
    ],
)
def test_a_client_s_mistake_gets_a_sentence(world, path, body, status):
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{world.url}{path}", content=body, headers=headers, **LOCAL)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "path", ["/%70redict", "/predict%2f", "/v2/models/helpdesk/%69nfer", "/v2/models/help%64esk/infer", "/%66eedback"]
)
def test_a_path_in_other_letters_is_no_way_around_the_split_and_the_log(world, path):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}
    url = httpx.URL(world.url, raw_path=path.encode())
    answer = httpx.post(url, json=body if "nfer" in path else {"text": "x"}, **LOCAL)
    assert (answer.status_code, "without %" in answer.json()["error"]) == (400, True)


def test_too_many_rows_over_the_open_inference_protocol(world):
    tensor = {"name": "text", "shape": [300], "datatype": "BYTES", "data": ["x"] * 300}
    answer = httpx.post(f"{world.url}/v2/models/helpdesk/infer", json={"inputs": [tensor]}, **LOCAL)
    assert (answer.status_code, answer.json()["error"]) == (422, "300 rows, at most 256 are taken at once")


PLAIN = {("POST", "/predict"), ("POST", "/feedback"), ("GET", "/health")}


def test_the_description_is_of_what_the_gateway_lets_through(world):
    tree = httpx.get(f"{world.url}/openapi.json", **LOCAL).json()
    described = {(method.upper(), path) for path, item in tree["paths"].items() for method in item}
    assert described == PLAIN | {route for route in kserve_s_routes() if is_let_through(world, *route)}
    assert ("POST", "/v2/models/{model_name}/versions/{model_version}/infer") in described
    assert {status(world, *route) for route in described} == {200, 400}
    assert {"400", "422", "503"} <= set(tree["paths"]["/predict"]["post"]["responses"])
    # Nothing that is described refers to what is not.
    assert set(re.findall("#/components/schemas/([A-Za-z]+)", str(tree))) <= set(tree["components"]["schemas"])


def kserve_s_routes():
    """(method, path) of everything that KServe's application has, what is not let through included."""
    from fastapi import FastAPI
    from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

    found = set()

    class Collecting(FastAPI):
        def include_router(self, router, **named):
            found.update((method, route.path) for route in router.routes for method in route.methods)

    register_v2_endpoints(Collecting(openapi_url=None), None, None)
    assert ("POST", "/v2/repository/models/{model_name}/load") in found
    return found


def status(world, method, path):
    names = {"{model_name}": "helpdesk", "{model_version}": "1"}
    place = re.sub(r"\{\w+\}", lambda found: names[found[0]], path)
    body = {} if method == "POST" else None
    return httpx.request(method, f"{world.url}{place}", json=body, **LOCAL).status_code


def is_let_through(world, method, path):
    return status(world, method, path) != 404


def test_the_open_inference_protocol(world):
    with httpx.Client(base_url=world.url, **LOCAL) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        metadata = client.get("/v2/models/helpdesk").json()
        assert [tensor["name"] for tensor in metadata["outputs"]] == ["prediction_id", "label", "score"]
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["my card", "my order"]}
        answer = client.post("/v2/models/helpdesk/infer", json={"inputs": [tensor]}).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    plain = predict(world.url, ["my card", "my order"])
    assert outputs["label"] == [one["label"] for one in plain]
    assert answer["model_version"] == "1"
    assert answer["parameters"]["canary"] is False


def test_the_open_inference_protocol_over_grpc(world, lone_worker):
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

    text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"my card")
    stub = lone_worker.stub
    assert stub.ServerReady(messages.ServerReadyRequest(), timeout=PATIENCE_S).ready
    answer = stub.ModelInfer(messages.ModelInferRequest(model_name="helpdesk", inputs=[text]), timeout=PATIENCE_S)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(messages.ModelInferRequest(model_name="helpdesk"), timeout=PATIENCE_S)
    labels = [output for output in answer.outputs if output.name == "label"]
    assert labels[0].contents.bytes_contents[0].decode() == predict(world.url, ["my card"])[0]["label"]
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "more, expected",
    [
        ({}, 200),
        ({"id": "mine"}, 200),
        ({"parameters": {"top_k": 3}}, 200),
        ({"parameters": {"top_k": 99}}, 422),
        ({"inputs": []}, 400),
    ],
)
def test_a_parameter_that_means_nothing_changes_nothing(lone_worker, more, expected):
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["my card", "mon café ☕"]}
    plain, odd = (
        lone_worker.client.post("/v2/models/helpdesk/infer", json={"inputs": [{**tensor, **odd}], **more})
        for odd in ({}, {"parameters": {"odd": 1}})
    )
    assert (plain.status_code, odd.status_code) == (expected, expected)
    assert plain.headers["content-type"] == odd.headers["content-type"]
    assert without_ids(plain.json(), more) == without_ids(odd.json(), more)


def without_ids(tree, more):
    """An answer without what differs from request to request."""
    if "error" in tree:
        return tree
    assert tree["id"] == more.get("id") or len(tree["id"]) == 32
    ids, *others = tree["outputs"]
    assert ids["name"] == "prediction_id" and len(set(ids["data"])) == 2
    return {**tree, "id": "", "outputs": [{**ids, "data": []}, *others]}


def test_top_k_over_every_way_names_the_same_classes(world):
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    texts = ["my card", "my order"]
    with httpx.Client(base_url=world.url, **LOCAL) as client:
        plain = client.post("/predict", json={"texts": texts, "top_k": 3}).json()["predictions"]
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": texts}
        tree = {"inputs": [tensor], "parameters": {"top_k": 3}}
        answer = client.post("/v2/models/helpdesk/infer", json=tree).json()
        asked = client.post("/v2/models/helpdesk/infer", json={**tree, "outputs": [{"name": "top_labels"}]}).json()
    text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[2])
    text.contents.bytes_contents.extend(one.encode() for one in texts)
    fields = {
        "model_name": "helpdesk",
        "inputs": [text],
        "parameters": {"top_k": messages.InferParameter(int64_param=3)},
    }
    wanted = [messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("top_labels", "top_scores")]
    with grpc.insecure_channel(f"127.0.0.1:{world.settings.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        calls = [
            stub.ModelInfer(messages.ModelInferRequest(**fields, outputs=some), timeout=PATIENCE_S)
            for some in ((), wanted)
        ]
    labels = [item["label"] for one in plain for item in one["top"]]
    scores = [item["score"] for one in plain for item in one["top"]]
    assert len(labels) == 6
    (only,) = asked["outputs"]
    assert (only["name"], only["shape"], only["data"]) == ("top_labels", [2, 3], labels)
    found = {output["name"]: (output["shape"], output["data"]) for output in answer["outputs"]}
    assert found["top_labels"] == ([2, 3], labels)
    assert found["top_scores"] == ([2, 3], pytest.approx(scores))
    for call in calls:
        outputs = {one.name: one for one in call.outputs}
        assert [one.decode() for one in outputs["top_labels"].contents.bytes_contents] == labels
        assert list(outputs["top_scores"].contents.fp64_contents) == pytest.approx(scores)
        assert list(outputs["top_scores"].shape) == [2, 3]


def test_without_a_broker_an_answer_that_could_wait_comes_at_once(world):
    assert world.ask(prefer="respond-async").status_code == 200
    assert httpx.get(f"{world.url}/jobs/a", **LOCAL).status_code == 404
