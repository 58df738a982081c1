"""What a pod counts of its calls; the protocol itself is tested through the gateway in tests/serving."""

import asyncio

import grpc
import pytest

from tests.unit.serving.test_rest import ENGINE, OPTIONS
from tokka.deployment.kserve.predictors import Outcome, read_counts
from tokka.serving import open_inference_pb2 as pb
from tokka.serving import v2_grpc
from tokka.serving.predict_api import BadRequest
from tokka.serving.service import Service


def test_a_call_is_counted_by_the_status_that_rest_would_have_given_it():
    service = Service(ENGINE, OPTIONS.model_copy(update={"metrics": True}), None)

    async def ask(shadow):
        server, port = await v2_grpc.start(service, "127.0.0.1")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(f"/{v2_grpc.SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call(pb.ModelInferRequest(model_name="another"), metadata=[("x-tokka-shadow", shadow)])
        await server.stop(0)
        return refusal.value.code()

    for shadow in ("0", "1"):
        assert asyncio.run(ask(shadow)) is grpc.StatusCode.NOT_FOUND
    assert read_counts(service.metrics.exposition().decode(), 250.0) == {Outcome(404, False): 1}


@pytest.mark.parametrize("value", [{"double_param": 0.9}, {"string_param": "0.90"}])
def test_a_level_is_a_number_or_what_a_text_says_of_one(value):
    assert v2_grpc.read_request(leveled(value)).level == "0.9"


@pytest.mark.parametrize("value", [{"string_param": "high"}, {"string_param": "nan"}, {"int64_param": 1}, {}])
def test_what_is_no_level_is_refused(value):
    with pytest.raises(BadRequest, match="level"):
        v2_grpc.read_request(leveled(value))


def leveled(value):
    return pb.ModelInferRequest(parameters={"level": pb.InferParameter(**value)})
