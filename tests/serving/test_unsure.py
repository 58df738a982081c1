"""What a model is unsure of, and the classes that hold the truth: over every way that one can ask."""

import json
import shutil

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.models import LABELS, make_model
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S
from tests.fixtures.world import NAME, World

TEXTS = ["my card", "漢字"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model whose sets grow with the level, and a threshold between its answers to the two texts."""
    root = tmp_path_factory.mktemp("sets")
    digest = make_model(root / "model", seed=1, conformal={"0.5": 1.0, "0.9": 0.01, "0.99": 0.0})
    made = World(tmp_path_factory.mktemp("home"), free_port(), {digest: root / "model"}, threshold=_between(root))
    made.install("1")
    made.up()
    yield made
    made.close()
    shutil.rmtree(made.settings.home, ignore_errors=True)


def _between(root):
    from tokka.serving.engine import Engine, Row

    engine = Engine.load(root / "model")
    scores = [one.score for one in engine.predict(engine.prepare([Row(text) for text in TEXTS]))]
    assert len(set(scores)) == 2
    return sum(scores) / 2


@pytest.fixture(scope="module")
def plain(world):
    """The rows of POST /predict at a level."""

    def ask(level=None):
        body = {"texts": TEXTS, **({} if level is None else {"level": level})}
        answer = httpx.post(f"{world.url}/predict", json=body, **LOCAL)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    return ask


def test_below_the_threshold_an_answer_is_unsure_and_keeps_its_label(world, plain):
    rows = plain()
    assert {row["unsure"] for row in rows} == {True, False}
    for row in rows:
        assert row["unsure"] == (row["score"] < world.params.serving.threshold)
        assert row["label"] in LABELS and "set" not in row


def test_a_set_grows_with_the_level_and_holds_the_answer(plain):
    best, some, every = (plain(level) for level in (0.5, 0.9, 0.99))
    for row, more, whole in zip(best, some, every, strict=True):
        assert row["set"] == [row["label"]]
        assert set(row["set"]) <= set(more["set"]) <= set(whole["set"]) == set(LABELS)


def v2(world, **parameters):
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS}
    return httpx.post(
        f"{world.url}/v2/models/{NAME}/infer", json={"inputs": [tensor], "parameters": parameters}, **LOCAL
    )


def test_the_open_inference_protocol_says_the_same(world, plain):
    outputs = {one["name"]: one for one in v2(world, level=0.9).json()["outputs"]}
    assert (outputs["unsure"]["datatype"], outputs["unsure"]["shape"]) == ("BOOL", [2])
    assert outputs["unsure"]["data"] == [row["unsure"] for row in plain(0.9)]
    assert [json.loads(one) for one in outputs["set"]["data"]] == [row["set"] for row in plain(0.9)]
    assert "set" not in {one["name"] for one in v2(world).json()["outputs"]}


def test_and_so_does_grpc_typed_and_raw(world, plain):
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[2])
    raw = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in TEXTS)
    level = {"level": messages.InferParameter(string_param="0.9")}  # KServe's client has no fractions
    typed = messages.ModelInferRequest(model_name=NAME, inputs=[tensor], parameters=level)
    typed.inputs[0].contents.bytes_contents.extend(text.encode() for text in TEXTS)
    packed = messages.ModelInferRequest(model_name=NAME, inputs=[tensor], parameters=level, raw_input_contents=[raw])
    with grpc.insecure_channel(f"127.0.0.1:{world.settings.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        one, other = (stub.ModelInfer(request, timeout=PATIENCE_S) for request in (typed, packed))
    contents = {output.name: output.contents for output in one.outputs}
    assert list(contents["unsure"].bool_contents) == [row["unsure"] for row in plain()]
    assert [json.loads(text) for text in contents["set"].bytes_contents] == [row["set"] for row in plain(0.9)]
    place = [output.name for output in other.outputs].index("unsure")
    assert other.raw_output_contents[place] == bytes(row["unsure"] for row in plain())


@pytest.mark.parametrize(
    ("level", "status"), [(0.8, 422), ("0.9", 400), (True, 400), (0, 422), (1, 422), (1e9, 422), ([0.9], 400)]
)
def test_a_level_that_there_is_not_is_refused_in_words(world, level, status):
    answer = httpx.post(f"{world.url}/predict", json={"texts": TEXTS, "level": level}, **LOCAL)
    assert (answer.status_code, "level" in answer.json()["error"]) == (status, True)
    if not isinstance(level, list):
        answer = v2(world, level=level)
        assert (answer.status_code, "level" in answer.json()["error"]) == (status, True)
