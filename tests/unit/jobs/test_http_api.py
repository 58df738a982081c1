"""What a request is held to when its answer can wait: to the same as when it cannot."""

import json
import re

import pytest

from tokka.jobs.gateway_client import Interface, question
from tokka.jobs.http_api import job_of
from tokka.jobs.messages import decode, encode
from tokka.serving.predict_api import BadRequest

SINGLE = Interface(("text",), ("prediction_id", "label", "score"))
VALUE = Interface(("text",), ("prediction_id", "value"))
PAIRS = Interface(("text", "text_pair"), ("prediction_id", "value"))


def tensor(**changes):
    return {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"], **changes}


def accept(tree, interface=SINGLE, path="/v2/models/m/infer", **headers):
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    headers = {"x-request-id": "gateway", **headers}
    return job_of(path, body, headers, model="m", max_rows=3, secret=b"s", interface=interface)


def accept_unasked(tree, path="/predict", **headers):
    """While nobody says what the model takes."""
    return accept(tree, None, path, **headers)


def test_the_id_and_the_outputs_of_a_request_reach_the_model():
    outputs = [{"name": "label"}, {"name": "prediction_id"}]
    job = decode(encode(accept({"id": "order-7", "inputs": [tensor()], "outputs": outputs})))
    assert question(job) == (
        "/v2/models/m/infer",
        {"id": "order-7", "inputs": [tensor()], "outputs": outputs},
    )
    assert question(accept({"inputs": [tensor()]}))[1] == {"id": "gateway", "inputs": [tensor()]}


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 1], "data": [["a"], ["b"]]},
        {"shape": [1, 2]},
        {"shape": [-1]},
        {"datatype": "bytes"},
    ],
)
def test_whatever_has_two_texts_is_two_texts(change):
    assert accept({"inputs": [tensor(**change)]}).texts == ["a", "b"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({"inputs": "text"}, "inputs"),
        ({"inputs": [tensor(shape=[3])]}, "given shape"),
        ({"inputs": [tensor(shape="2")]}, "inputs.0.shape"),
        ({"inputs": [tensor(data="ab")]}, "inputs.0.data"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "data": ["a", "b"]}]}, "inputs.0.shape"),
        ({"inputs": [tensor(data=["a", 2])]}, "strings, not int"),
        ({"inputs": [tensor(data=["a", ["b"]])]}, "given shape|strings, not list"),
        ({"inputs": [tensor(data=["a", "\ud800"])]}, "Unicode"),
        ({"inputs": [tensor()], "id": "\ud800"}, "Unicode"),
        ({"inputs": [tensor()], "id": 7}, "id"),
        ({"inputs": [tensor()], "parameters": {"a": []}}, "parameters.a"),
        ({"inputs": [tensor(name="texts")]}, "unknown input 'texts'"),
        ({"inputs": [tensor()], "outputs": [{"name": "value"}]}, "unknown output 'value'"),
        ({"inputs": [tensor()], "outputs": ["label"]}, "outputs.0"),
        ({"inputs": [tensor(), tensor(name="text_pair")]}, "takes no text_pair"),
    ],
)
def test_what_would_be_refused_now_is_refused(tree, words):
    with pytest.raises(BadRequest, match=words) as refused:
        accept(tree)
    assert refused.value.status == 400


def test_top_k_is_held_to_what_it_would_be_held_to_now():
    assert accept({"text": "a", "top_k": 3}, path="/predict").top_k == 3
    assert accept({"text": "a"}, path="/predict").top_k is None
    asked = {"inputs": [tensor()], "parameters": {"top_k": 2}, "outputs": [{"name": "top_labels"}]}
    assert question(accept(asked))[1] == {"id": "gateway", **asked}
    with pytest.raises(BadRequest, match="unknown output 'top_labels'"):
        accept({**asked, "parameters": {}})
    for interface, top_k, status in ((SINGLE, 21, 422), (SINGLE, "2", 400), (VALUE, 2, 400)):
        plain, protocol = {"text": "a", "top_k": top_k}, {"inputs": [tensor()], "parameters": {"top_k": top_k}}
        for tree, path in ((plain, "/predict"), (protocol, "/v2/models/m/infer")):
            with pytest.raises(BadRequest) as refused:
                accept(tree, interface, path)
            assert refused.value.status == status


def test_binary_tensors_cannot_wait():
    with pytest.raises(BadRequest, match="as JSON"):
        accept({"inputs": [tensor()]}, **{"inference-header-content-length": "20"})


def test_whether_there_are_pairs_is_the_models_to_say():
    with pytest.raises(BadRequest, match="compares pairs"):
        accept({"inputs": [tensor()]}, PAIRS)
    with pytest.raises(BadRequest, match="takes no text_pair"):
        accept({"text": "a", "text_pair": "b"}, SINGLE, "/predict")
    assert accept({"inputs": [tensor(), tensor(name="text_pair")]}, PAIRS).text_pairs == ["a", "b"]
    # Nothing serves: the job waits, and the model says it later.
    assert accept({"text": "a", "text_pair": "b"}, None, "/predict").text_pairs == ["b"]
    assert accept({"inputs": [tensor()], "outputs": [{"name": "value"}]}, None).outputs == ["value"]


def test_another_id_or_other_outputs_are_another_request():
    jobs = [accept({"inputs": [tensor()], **more}) for more in ({}, {"id": "a"}, {"outputs": [{"name": "label"}]})]
    assert len({job.digest() for job in jobs}) == 3


def test_a_request_becomes_a_job():
    assert accept_unasked({"text": "a"}).shape == "text"
    assert accept_unasked({"texts": ["a", "b"], "text_pairs": ["c", "d"]}).text_pairs == ["c", "d"]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}
    assert accept_unasked({"inputs": [tensor]}, "/v2/models/m/infer").texts == ["a", "b"]
    assert accept_unasked({"text": "a"}).id == "gateway"


def test_a_key_is_of_one_caller_and_one_secret():
    one = accept_unasked({"text": "a"}, **{"idempotency-key": "k"}).id
    assert one == accept_unasked({"text": "b"}, **{"idempotency-key": "k"}).id
    assert one != accept_unasked({"text": "a"}, **{"idempotency-key": "k", "authorization": "Bearer x"}).id
    assert re.fullmatch("[0-9a-f]{32}", one)


@pytest.mark.parametrize(
    ("tree", "path", "status"),
    [
        ({}, "/predict", 400),
        ({"texts": ["a"] * 4}, "/predict", 422),
        ({"text": "a"}, "/v2/models/m/infer", 400),
        ({"inputs": [{"name": "text", "datatype": "FP32", "data": [1]}]}, "/v2/models/m/infer", 400),
        ({"inputs": [{"name": "other", "datatype": "BYTES", "data": ["a"]}]}, "/v2/models/m/infer", 400),
        ({"inputs": []}, "/v2/models/another/infer", 404),
    ],
)
def test_what_would_be_refused_now_is_refused_though_nothing_serves(tree, path, status):
    with pytest.raises(BadRequest) as refused:
        accept_unasked(tree, path)
    assert refused.value.status == status


def test_a_key_that_is_none_is_refused():
    for key in ("", "with space", "x" * 201):
        with pytest.raises(BadRequest, match="Idempotency-Key"):
            accept_unasked({"text": "a"}, **{"idempotency-key": key})


def test_a_text_that_speaks_of_pairs_is_no_pair():
    job = accept_unasked({"text": 'what is "text_pair" for?'})
    assert job.text_pairs is None
    assert accept_unasked({"text": "a", "text_pair": "b"}).text_pairs == ["b"]
