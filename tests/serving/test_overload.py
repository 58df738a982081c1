"""More requests than the workers can take: some are refused, with a word when to come back, and nobody waits long."""

import asyncio
import os
import signal

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.world import NAME

# Ten times what the worker has at once, and few enough for a busy machine to send before the worker is missed.
BURST = 20


@pytest.fixture(scope="module")
def narrow(make_world):
    """One worker that has two requests at a time; who would wait more than a millisecond for it is refused."""
    made = make_world(workers=1, batch=1, max_wait_ms=1, max_tokens=30)
    made.install("1")
    made.up()
    return made


async def together(world, calls):
    """What became of calls that start at once, with the worker stopped until the first of them has been refused."""
    # The daemon first: it would replace the worker that no longer answers.
    pids = [world.info().daemon, *(worker.pid for worker in world.workers("1"))]
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
    return await asyncio.gather(*tasks)


def burst(world, path, body):
    async def all_at_once():
        limits = httpx.Limits(max_connections=BURST)
        async with httpx.AsyncClient(base_url=world.url, **LOCAL, limits=limits) as client:
            return await together(world, [client.post(path, json=body) for _ in range(BURST)])

    return asyncio.run(all_at_once())


@pytest.mark.parametrize(
    "path, body",
    [
        ("/predict", {"text": "where is my card?"}),
        (
            "/v2/models/helpdesk/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my card?"]}]},
        ),
    ],
)
def test_a_burst_is_answered_or_refused_with_a_time_to_come_back(narrow, path, body):
    answers = burst(narrow, path, body)
    admitted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert admitted and refused
    assert {(answer.status_code, answer.headers.get("retry-after")) for answer in refused} == {(503, "1")}
    assert all("busy" in answer.json()["error"] for answer in refused)
    wait_for(lambda: narrow.ask().status_code == 200)


def test_a_burst_over_grpc_is_answered_or_refused_with_a_time_to_come_back(narrow):
    ended = asyncio.run(grpc_burst(narrow))
    refused = [error for error in ended if error is not None]
    print(f"\n{len(ended) - len(refused)} answered, {len(refused)} refused")
    assert 0 < len(refused) < len(ended)
    assert {error.code() for error in refused} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    # What gRPC's own retries go by.
    said = [dict([*error.trailing_metadata(), *error.initial_metadata()]) for error in refused]
    assert {one.get("grpc-retry-pushback-ms") for one in said} == {"1000"}


async def grpc_burst(world):
    """The error or None of each call."""
    text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"where is my card?")
    request = messages.ModelInferRequest(model_name=NAME, inputs=[text])

    async def call(stub):
        try:
            await stub.ModelInfer(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            return error
        return None

    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.settings.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        return await together(world, [call(stub) for _ in range(BURST)])


def test_a_request_of_too_many_tokens_is_refused(narrow):
    texts = ["where is my card?"] * 6
    tensor = {"name": "text", "datatype": "BYTES", "shape": [6], "data": texts}
    for path, body in (("/predict", {"texts": texts}), ("/v2/models/helpdesk/infer", {"inputs": [tensor]})):
        answer = httpx.post(f"{narrow.url}{path}", json=body, **LOCAL)
        assert answer.status_code == 422
        assert "tokens, at most 30" in answer.json()["error"]
    assert httpx.post(f"{narrow.url}/predict", json={"texts": texts[:3]}, **LOCAL).status_code == 200


def test_without_a_burst_nobody_is_refused(narrow):
    assert {narrow.ask(f"card {number}").status_code for number in range(50)} == {200}
