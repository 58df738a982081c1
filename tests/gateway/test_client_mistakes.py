"""Whatever a client sends to a worker, over either protocol, it is answered or it is the client's mistake."""

import json

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from tests.fixtures.worker import LoneWorker
from tests.fixtures.world import NAME

INFER = f"/v2/models/{NAME}/infer"
MISTAKES = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED
}  # fmt: skip
# The same cases each time.
fuzzed = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def worker(models, tmp_path_factory):
    made = LoneWorker(next(iter(models.values())), tmp_path_factory.mktemp("worker"))
    yield made
    made.close()
    lines = [json.loads(line) for line in made.log.read_text().splitlines()]
    assert [line["message"].partition(" after")[0] for line in lines if line["level"] != "WARNING"] == ["warm"]
    assert {(line["process"], line["revision"], line["pid"]) for line in lines} == {("worker", "1@", made.process.pid)}
    assert not [line for line in lines if "exception" in line]


@pytest.mark.parametrize("method, rest", [("POST", "infer"), ("GET", "ready"), ("GET", "")])
def test_a_version_that_is_not_served_is_not_found(worker, method, rest):
    body = {"inputs": [tensor(["my card"])]} if method == "POST" else None
    for version, status in (("1", 200), ("99", 404), ("", 404), ("1/2", 404)):
        path = f"/v2/models/{NAME}/versions/{version}/{rest}".rstrip("/")
        answer = worker.client.request(method, path, json=body)
        assert (path, answer.status_code) == (path, status)
    # No word of the protocol: it counts for nothing.
    answer = worker.client.request(method, f"/v2/models/{NAME}/{rest}?model_version=99".replace("/?", "?"), json=body)
    assert answer.status_code == 200
    assert "version '99'" in worker.client.request(method, f"/v2/models/{NAME}/versions/99/{rest}").json()["error"]


def test_a_version_that_is_not_served_is_not_found_over_grpc(worker):
    asked = [
        ("ModelInfer", lambda version: request([b"my card"], model_version=version)),
        ("ModelReady", lambda version: messages.ModelReadyRequest(name=NAME, version=version)),
        ("ModelMetadata", lambda version: messages.ModelMetadataRequest(name=NAME, version=version)),
    ]
    for method, make in asked:
        statuses = [worker.call(method, make(version).SerializeToString()) for version in ("", "1", "99")]
        assert statuses == [grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "\ud800"},
        {"id": ["x"]},
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [3]}]},
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [None]}]},
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["\ud800"]}]},
        {"inputs": [{"name": "\ud800", "datatype": "BYTES", "shape": [1], "data": ["x"]}]},
        {"outputs": [{"name": "\ud800"}]},
        {"outputs": [{"name": 3}]},
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_what_a_request_over_the_protocol_may_not_hold_is_a_sentence(worker, changes, binary):
    answer = infer(worker, {"inputs": [tensor(["x"])], **changes}, binary=binary)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff",
        messages.ModelInferRequest(
            model_name=NAME, raw_input_contents=[b"\xff\xff\xff"],
            inputs=[messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])],
        ).SerializeToString(),
    ],
)  # fmt: skip
def test_bytes_that_are_no_message_or_no_text_are_an_invalid_argument(worker, content):
    assert worker.call("ModelInfer", content) == grpc.StatusCode.INVALID_ARGUMENT
    text = request([b"\xff\xff\xff"]).SerializeToString()
    assert worker.call("ModelInfer", text) == grpc.StatusCode.INVALID_ARGUMENT


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
words = st.text(st.characters(codec=None), max_size=12)
predict_bodies = st.dictionaries(
    st.sampled_from(["text", "texts", "text_pair", "text_pairs", "top_k", "id", "\ud800"]) | words, words | anything,
    max_size=3,
)  # fmt: skip
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "text_pair"]) | anything,
        "datatype": st.sampled_from(["BYTES", "FP32", "bytes"]) | anything,
        "shape": st.just([1]) | st.lists(st.integers(-2, 3), max_size=3) | anything,
        "data": st.lists(words, max_size=2) | anything,
    },
    optional={"parameters": anything | st.fixed_dictionaries({"binary_data_size": st.integers(-9, 9) | anything})},
)
infer_bodies = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | anything},
    optional={
        "id": words | anything,
        "parameters": anything | st.fixed_dictionaries({"top_k": anything, "binary_data_output": anything}),
        "outputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["label", "score", "prediction_id"]) | anything},
                optional={"parameters": st.fixed_dictionaries({"binary_data": anything})},
            ),
            max_size=2,
        ) | anything,
    },
)  # fmt: skip


@given(st.binary(max_size=40) | predict_bodies)
@fuzzed
def test_no_body_of_predict_is_a_server_s_failure(worker, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = worker.client.post("/predict", content=content)
    assert answer.status_code in (200, 400, 413, 422), answer.text
    assert answer.status_code == 200 or answer.json()["error"]


@given(
    st.binary(max_size=40) | infer_bodies, st.booleans(), st.sampled_from(["", "ce-id", "application/cloudevents+json"])
)
@example({"id": "\ud800", "inputs": []}, False, "")
@fuzzed
def test_no_body_of_the_protocol_is_a_server_s_failure(worker, body, binary, oddity):
    answer = infer(worker, body, binary=binary, oddity=oddity)
    assert answer.status_code in (200, 400, 413, 415, 422), answer.text
    assert answer.status_code == 200 or answer.json()["error"]


names = st.text(max_size=6)
parameters = st.dictionaries(
    st.sampled_from(["top_k", "binary_data"]) | names,
    st.builds(messages.InferParameter, int64_param=st.integers(-9, 99))
    | st.builds(messages.InferParameter, string_param=names)
    | st.builds(messages.InferParameter, bool_param=st.booleans())
    | st.builds(messages.InferParameter),
    max_size=2,
)
requests = st.builds(
    messages.ModelInferRequest,
    model_name=st.sampled_from([NAME, NAME, NAME, ""]) | names,
    model_version=st.sampled_from(["", "", "1"]) | names,
    id=names,
    parameters=parameters,
    inputs=st.lists(
        st.builds(
            messages.ModelInferRequest.InferInputTensor,
            name=st.sampled_from(["text", "text", "text_pair"]) | names,
            datatype=st.sampled_from(["BYTES", "BYTES", "FP32", "FP16", "bytes"]) | names,
            shape=st.just([1]) | st.lists(st.integers(-2, 3), max_size=3),
            parameters=parameters,
            contents=st.none()
            | st.builds(messages.InferTensorContents, bytes_contents=st.lists(st.binary(max_size=6), max_size=2))
            | st.builds(messages.InferTensorContents, fp32_contents=st.lists(st.floats(width=32), max_size=2)),
        ),
        max_size=2,
    ),
    outputs=st.lists(
        st.builds(
            messages.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["label", "score"]) | names,
            parameters=parameters,
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(st.binary(max_size=9) | st.just(b"\x01\x00\x00\x00x"), max_size=2),
)


@given(st.binary(max_size=40) | requests.map(lambda made: made.SerializeToString()))
@fuzzed
def test_no_message_over_grpc_is_a_server_s_failure(worker, content):
    assert worker.call("ModelInfer", content) in MISTAKES


def tensor(texts):
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def request(texts, **fields):
    contents = messages.InferTensorContents(bytes_contents=texts)
    column = messages.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)], contents=contents
    )
    return messages.ModelInferRequest(model_name=NAME, inputs=[column], **fields)


def infer(worker, body, *, binary, oddity=""):
    """As JSON alone, or as the JSON half of the protocol's binary form."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/octet-stream" if binary else "application/json"}
    if binary:
        headers["inference-header-content-length"] = str(len(content))
        content += b"\x01\x00\x00\x00x"
    if oddity:
        headers |= (
            {"content-type": oddity}
            if "/" in oddity
            else {oddity: "x", "ce-source": "x", "ce-type": "x", "ce-specversion": "1.0"}
        )
    return worker.client.post(INFER, content=content, headers=headers)
