"""A worker by itself at its limits: told to end it answers what it has; asked too much it says when to come back."""

import signal
import threading
import time

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.waiting import LOCAL, PATIENCE_S
from tests.fixtures.worker import LoneWorker
from tests.fixtures.world import NAME

ROWS = ["my card and my order and my printer and my password and my refund " * 4] * 240


@pytest.fixture
def worker(models, tmp_path):
    made = LoneWorker(next(iter(models.values())), tmp_path, max_tokens=1_000_000)
    yield made
    made.close()


def test_what_is_in_flight_at_sigterm_is_answered_over_both_protocols(worker):
    ended, ready = [], threading.Barrier(5)

    def take_part(ask):
        # A connection that is there already: who is only about to connect is refused, and goes elsewhere.
        ask(["warm"])
        ready.wait()
        answered = ask(ROWS)
        ended.append((time.monotonic(), answered))

    threads = [threading.Thread(target=over, args=(worker, take_part)) for over in (over_rest, over_grpc) * 2]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(0.05)
    told = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    print([(round(moment - told, 3), answered) for moment, answered in ended])
    assert [answered for _, answered in ended] == [len(ROWS)] * 4
    assert sum(moment > told for moment, _ in ended) >= 2
    assert worker.process.wait(15) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{worker.url}/health", **LOCAL)


def test_a_worker_that_has_too_much_says_when_to_come_back(worker):
    text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[250])
    text.contents.bytes_contents.extend([b"my card and my order"] * 250)
    request = messages.ModelInferRequest(model_name=NAME, inputs=[text])
    calls = [worker.stub.ModelInfer.future(request, timeout=PATIENCE_S) for _ in range(20)]
    refused = [call for call in calls if call.exception() is not None]
    assert 0 < len(refused) < len(calls)
    assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
    said = [dict(call.trailing_metadata()) for call in refused]
    assert {(one["grpc-retry-pushback-ms"], one["x-tokka-version"]) for one in said} == {("1000", "1")}


def over_rest(worker, take_part):
    with httpx.Client(base_url=worker.url, **LOCAL) as client:

        def ask(texts):
            answer = client.post("/predict", json={"texts": texts})
            return len(answer.json()["predictions"]) if answer.status_code == 200 else answer.text

        take_part(ask)


def over_grpc(worker, take_part):
    with grpc.insecure_channel(f"127.0.0.1:{worker.facts['grpc_port']}") as channel:
        stub = GRPCInferenceServiceStub(channel)

        def ask(texts):
            text = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
            text.contents.bytes_contents.extend(one.encode() for one in texts)
            try:
                answer = stub.ModelInfer(messages.ModelInferRequest(model_name=NAME, inputs=[text]), timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return error.details()
            return answer.outputs[0].shape[0]

        take_part(ask)
