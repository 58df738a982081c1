"""What a request over the v2 protocol is held to when its answer can wait: to the same as when it cannot."""

import asyncio
import json

import httpx
import pytest

from tokka.jobs.consumer import Refused
from tokka.jobs.gateway_client import GatewayClient, Interface, question
from tokka.jobs.http_api import job_of
from tokka.jobs.messages import Job, decode, encode, encode_result, predictions_of
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


def test_a_reply_has_what_was_asked_for():
    answer = {"model_version": "3", "parameters": {"canary": True}, "outputs": [{"name": "label", "data": ["card"]}]}
    (row,) = predictions_of(answer)
    assert (row["label"], row["score"], row["canary"], row["model_version"]) == ("card", None, True, "3")
    assert encode_result("a", "done", answer)


def test_what_the_model_takes_is_asked_of_the_gateway_now_and_then():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        if len(asked) == 1:
            return httpx.Response(401, json={"error": "no key"})
        tree = {"inputs": [{"name": "text"}], "outputs": [{"name": name} for name in SINGLE.outputs]}
        return httpx.Response(200, json=tree)

    async def run():
        found = []
        for asker in (GatewayClient("http://gateway", dict), GatewayClient("http://gateway", dict)):
            asker._client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
            found += [await asker.interface("m") for _ in range(3)]
        return found

    assert asyncio.run(run()) == [None] * 3 + [SINGLE] * 3
    assert asked == ["/v2/models/m"] * 2


def asked_as(user, *, identity=None):
    """The headers with which a user's job is asked."""
    seen = []

    def answer(request):
        seen.append(request.headers)
        return httpx.Response(200, json={"label": "a"})

    async def run():
        asker = GatewayClient("http://gateway", lambda: identity or {})
        asker._client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
        await asker.ask(decode(encode(Job(id="a", model="m", texts=["x"], user=user))))

    asyncio.run(run())
    return dict(seen[0].raw)


@pytest.mark.parametrize("sent", ["jörg".encode("latin-1"), "jörg".encode(), "jà".encode(), b"a\xffb", b"plain user"])
def test_a_user_is_asked_for_with_the_bytes_that_came(sent):
    assert asked_as(sent.decode("latin-1"), identity={"x-api-key": "key"})[b"x-user-id"] == sent


def test_a_user_of_the_queue_alone_is_asked_for_in_utf_8():
    assert asked_as("名前")[b"x-user-id"] == "名前".encode()


@pytest.mark.parametrize("user", ["a\nb: c", "a\0", "a\x7f", " a", "a\t"])
def test_a_user_that_cannot_be_a_header_is_refused_at_once(user):
    with pytest.raises(Refused, match="x-user-id"):
        asked_as(user)
