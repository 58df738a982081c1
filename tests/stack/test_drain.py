"""A worker by itself at its limits: told to end it answers what it has; asked too much it says when to come back."""

import http.client
import json
import select
import signal
from pathlib import Path

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.worker import LoneWorker
from tests.fixtures.world import NAME

ROWS = ["my card and my order and my printer and my password and my refund " * 4] * 240


@pytest.fixture
def worker(models, tmp_path):
    made = LoneWorker(next(iter(models.values())), tmp_path, max_tokens=1_000_000)
    yield made
    made.close()


def test_what_is_in_flight_at_sigterm_is_answered_over_both_protocols(worker):
    # Connections that are there already: who is only about to connect is refused, and goes elsewhere.
    rest = [http.client.HTTPConnection("127.0.0.1", worker.facts["port"], timeout=PATIENCE_S) for _ in range(2)]
    for connection in rest:
        connection.connect()
    worker.stub.ModelInfer(request(["warm"]), timeout=PATIENCE_S)
    calls = [worker.stub.ModelInfer.future(request(ROWS), timeout=PATIENCE_S) for _ in range(2)]
    for connection in rest:
        connection.request("POST", "/predict", json.dumps({"texts": ROWS}), {"content-type": "application/json"})
    ports = {worker.facts["port"], worker.facts["grpc_port"]}
    wait_for(lambda: not unread(ports), what="the worker has not read the requests")
    unanswered = len(calls) + len(rest) - sum(call.done() for call in calls)
    unanswered -= len(select.select([connection.sock for connection in rest], [], [], 0)[0])
    worker.process.send_signal(signal.SIGTERM)
    assert [call.result().outputs[0].shape[0] for call in calls] == [len(ROWS)] * 2
    for connection in rest:
        with connection.getresponse() as answer:
            assert (answer.status, len(json.loads(answer.read())["predictions"])) == (200, len(ROWS))
        connection.close()
    print(f"{unanswered} were in flight")
    assert unanswered >= 2
    assert worker.process.wait(PATIENCE_S) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{worker.url}/health", **LOCAL)


def unread(ports):
    """Bytes on their way to these ports: sent and not yet read, as the kernel counts them."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        here, there, (sent, received) = (
            *(int(end.split(":")[1], 16) for end in line.split()[1:3]),
            line.split()[4].split(":"),
        )
        found += int(received, 16) * (here in ports) + int(sent, 16) * (there in ports)
    return found


def request(texts):
    column = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    column.contents.bytes_contents.extend(text.encode() for text in texts)
    return messages.ModelInferRequest(model_name=NAME, inputs=[column])


def test_a_worker_that_has_too_much_says_when_to_come_back(worker):
    many = request(["my card and my order"] * 250)
    calls = [worker.stub.ModelInfer.future(many, timeout=PATIENCE_S) for _ in range(20)]
    refused = [call for call in calls if call.exception() is not None]
    assert 0 < len(refused) < len(calls)
    assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
    said = [dict(call.trailing_metadata()) for call in refused]
    assert {(one["grpc-retry-pushback-ms"], one["x-tokka-version"]) for one in said} == {("1000", "1")}
