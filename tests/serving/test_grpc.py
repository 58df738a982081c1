"""The Open Inference Protocol over gRPC, through the gateway: the same split, the same words, and no request lost."""

import threading
import time

import grpc
import httpx
import pytest
from kserve import InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.world import NAME

WANTED = messages.ModelInferRequest.InferRequestedOutputTensor
TEXTS = ["my card is late", "the printer smokes", "漢字"]


@pytest.fixture(scope="module")
def stub(world):
    with grpc.insecure_channel(f"127.0.0.1:{world.settings.grpc_port}") as channel:
        yield GRPCInferenceServiceStub(channel)


def request(texts, *, raw=False, name="text", model=NAME, **fields):
    """As clients send it: with typed contents, or raw."""
    tensor = messages.ModelInferRequest.InferInputTensor(name=name, datatype="BYTES", shape=[len(texts)])
    found = messages.ModelInferRequest(model_name=model, **fields)
    encoded = [text.encode() for text in texts]
    if raw:
        found.raw_input_contents.append(b"".join(len(one).to_bytes(4, "little") + one for one in encoded))
    else:
        tensor.contents.bytes_contents.extend(encoded)
    found.inputs.append(tensor)
    return found


def outputs(answer):
    """{name: (datatype, shape, values)} of an answer, as KServe's own code reads it."""
    read = InferResponse.from_grpc(answer)
    return {
        one.name: (one.datatype, list(one.shape), [str_of(value) for value in one.as_numpy().tolist()])
        for one in read.outputs
        if one.name != "prediction_id"
    }


def str_of(value):
    return value.decode() if isinstance(value, bytes) else value


def test_a_raw_request_has_the_same_answer_raw(stub):
    typed, raw = (stub.ModelInfer(request(TEXTS, raw=raw, id="mine"), timeout=PATIENCE_S) for raw in (False, True))
    assert (len(typed.raw_output_contents), len(raw.raw_output_contents)) == (0, len(raw.outputs))
    assert outputs(typed) == outputs(raw)
    assert {name: len(found[2]) for name, found in outputs(typed).items()} == {"label": 3, "score": 3}
    for field in ("model_name", "model_version", "id"):
        assert getattr(typed, field) == getattr(raw, field)
    assert typed.parameters["canary"] == raw.parameters["canary"]
    assert [one.name for one in typed.outputs] == [one.name for one in raw.outputs]


def test_only_the_outputs_that_are_asked_for_are_given(stub):
    answer = stub.ModelInfer(request(TEXTS, outputs=[WANTED(name="label")]), timeout=PATIENCE_S)
    assert [one.name for one in answer.outputs] == ["label"]


@pytest.mark.parametrize(
    "wrong, code",
    [
        (request(["x"] * 300), grpc.StatusCode.INVALID_ARGUMENT),
        (request(["x"] * 300, raw=True), grpc.StatusCode.INVALID_ARGUMENT),
        (request([]), grpc.StatusCode.INVALID_ARGUMENT),
        (request(["x"], name="words"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(["x"], name="text_pair"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(["x"], model="another"), grpc.StatusCode.NOT_FOUND),
        (request(["x"], model_version="99"), grpc.StatusCode.NOT_FOUND),
        (request(["x"], outputs=[WANTED(name="lable")]), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_client_s_mistake_has_a_status_and_a_sentence(stub, wrong, code):
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(wrong, timeout=PATIENCE_S)
    assert refused.value.code() == code
    assert refused.value.details() and "Traceback" not in refused.value.details()


def test_what_a_model_server_refuses_is_logged_with_its_version_and_what_the_gateway_refuses_is_not(world, stub):
    """Only so can a judge tell a challenger that refuses good requests from clients that send bad ones."""
    since = time.time()
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(["x"] * 300), timeout=PATIENCE_S)
    too_many = httpx.post(f"{world.url}/predict", json={"texts": ["x"] * 300}, **LOCAL)
    too_large = httpx.post(f"{world.url}/predict", content=b"x" * 1_100_000, **LOCAL)
    assert (too_many.status_code, too_large.status_code) == (422, 413)

    def logged():
        found = world.logged("request", since)
        return sorted((one["protocol"], one["status"], one["version"]) for one in found if one["status"] != 200)

    world.wait(lambda: len(logged()) == 3)
    assert logged() == [("grpc", 400, "1"), ("rest", 413, ""), ("rest", 422, "1")]


def test_the_split_is_the_gateway_s_and_a_user_stays(world, stub):
    world.challenge("2", 0.5)
    try:
        seen = {user: {ask(stub, user) for _ in range(3)} for user in (f"user {number}" for number in range(100))}
    finally:
        world.retire()
    assert all(len(answers) == 1 for answers in seen.values())
    versions = [version for answers in seen.values() for version, _ in answers]
    assert 25 < versions.count("2") < 75
    assert all(canary == (version == "2") for answers in seen.values() for version, canary in answers)


def test_who_names_a_version_gets_that_one(world, stub):
    world.challenge("2", 0.5)
    try:
        seen = {(asked, stub.ModelInfer(request(["x"], model_version=asked), timeout=PATIENCE_S).model_version)
                for asked in "12" for _ in range(12)}  # fmt: skip
    finally:
        world.retire()
    assert seen == {("1", "1"), ("2", "2")}


def ask(stub, user):
    """(version, canary) of one answer; its head says the same."""
    answer, call = stub.ModelInfer.with_call(request(["my card"]), timeout=PATIENCE_S, metadata=(("x-user-id", user),))
    head = {item.key: item.value for item in call.initial_metadata()}
    canary = answer.parameters["canary"].bool_param
    assert (head["x-tokka-version"], head["x-tokka-canary"]) == (answer.model_version, str(int(canary)))
    assert head["x-request-id"]
    return answer.model_version, canary


def test_a_killed_worker_costs_no_request(world, stub):
    failures, answered, ended = [], [], threading.Event()

    def stream():
        while not ended.is_set():
            try:
                answered.append(stub.ModelInfer(request(["my card"]), timeout=PATIENCE_S).model_version)
            except grpc.RpcError as error:
                failures.append(f"{error.code()}: {error.details()}")

    threads = [threading.Thread(target=stream) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        wanted = len(answered) + 17
        wait_for(lambda wanted=wanted: failures or len(answered) >= wanted)
        gone = world.kill("1")[0]
        world.wait(lambda gone=gone: len({one.pid for one in world.workers("1")} - {gone}) == 2)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(answered) > 50
