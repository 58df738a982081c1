"""KServe's own clients, `InferenceRESTClient` and `InferenceGRPCClient`, at one worker and through the gateway."""

import asyncio

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.fixtures.world import NAME
from tokka.gateway.client import predict

TEXTS = ["my card is late", "the printer smokes", "漢字 ☕"]


@pytest.fixture(params=["worker", "gateway"])
def ports(request, world, lone_worker):
    """(REST, gRPC) of who is asked."""
    if request.param == "gateway":
        return world.settings.port, world.settings.grpc_port
    return lone_worker.facts["port"], lone_worker.facts["grpc_port"]


@pytest.fixture
def rest(ports):
    """Calls a method of the REST client."""

    def call(method, *arguments, **named):
        async def run():
            async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
                return await getattr(client, method)(f"http://127.0.0.1:{ports[0]}", *arguments, **named)

        return asyncio.run(run())

    return call


@pytest.fixture
def over_grpc(ports):
    """Calls a method of the gRPC client."""

    def call(method, *arguments, **named):
        async def run():
            async with InferenceGRPCClient(f"127.0.0.1:{ports[1]}") as client:
                return await getattr(client, method)(*arguments, **named)

        return asyncio.run(run())

    return call


def request(binary, texts=TEXTS, **more):
    tensor = InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
    return InferRequest(model_name=NAME, infer_inputs=[tensor], **more)


def labels(answer):
    (found,) = [one for one in answer.outputs if one.name == "label"]
    return [value.decode() if isinstance(value, bytes) else value for value in found.as_numpy().tolist()]


def scores(answer):
    (found,) = [one for one in answer.outputs if one.name == "score"]
    return found.as_numpy().tolist()


def check(world, answer):
    expected = predict(world.url, TEXTS)
    assert labels(answer) == [one["label"] for one in expected]
    assert scores(answer) == pytest.approx([one["score"] for one in expected])
    assert (answer.model_name, answer.id) == (NAME, "mine")


def test_health_over_rest(rest):
    assert rest("is_server_live") is True
    assert rest("is_server_ready") is True
    assert rest("is_model_ready", NAME) is True


def test_a_model_that_is_not_there_over_rest(rest):
    with pytest.raises(httpx.HTTPStatusError, match="'another' is not served here"):
        rest("infer", request(False), model_name="another")


@pytest.mark.parametrize("binary", [False, True])
def test_inference_over_rest(world, rest, binary):
    check(world, rest("infer", request(binary, request_id="mine"), model_name=NAME))


@pytest.mark.parametrize("binary", [False, True])
def test_chosen_outputs_over_rest(rest, binary):
    outputs = [RequestedOutput(name, parameters={"binary_data": binary}) for name in ("score", "top_labels")]
    answer = rest("infer", request(binary, request_outputs=outputs, parameters={"top_k": 2}), model_name=NAME)
    assert [(one.name, one.shape) for one in answer.outputs] == [("score", [3]), ("top_labels", [3, 2])]
    assert all(0 < one <= 1 for one in scores(answer))


def test_a_mistake_over_rest_is_a_sentence(rest):
    with pytest.raises(httpx.HTTPStatusError, match="300 rows, at most 256") as refused:
        rest("infer", request(True, ["x"] * 300), model_name=NAME)
    assert refused.value.response.status_code == 422


def test_health_over_grpc(over_grpc):
    assert over_grpc("is_server_live") is True
    assert over_grpc("is_server_ready") is True
    assert over_grpc("is_model_ready", NAME) is True
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc("is_model_ready", "another")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("binary", [False, True])
def test_inference_over_grpc(world, over_grpc, binary):
    answer = over_grpc("infer", request(binary, request_id="mine"))
    check(world, answer)
    assert answer.model_version == "1"


def test_chosen_outputs_over_grpc(over_grpc):
    outputs = [RequestedOutput("score"), RequestedOutput("top_labels")]
    answer = over_grpc("infer", request(True, request_outputs=outputs, parameters={"top_k": 2}))
    assert [(one.name, list(one.shape)) for one in answer.outputs] == [("score", [3]), ("top_labels", [3, 2])]


def test_a_mistake_over_grpc_has_a_status_and_a_sentence(over_grpc):
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc("infer", request(False, ["x"] * 300))
    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "300 rows, at most 256 are taken at once",
    )
