"""Triton's `tritonclient`, over HTTP with its binary tensors and with JSON, and over gRPC, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import world as worlds
from tokka.gateway.client import predict

SCRIPT = Path(worlds.__file__).with_name("triton_clients.py")
TEXTS = ["my card is late", "the printer smokes", "漢字 ☕"]
WAYS = ["http, binary tensors", "http, JSON", "grpc"]


@pytest.fixture(scope="module", params=["worker", "gateway"])
def found(request, world, lone_worker):
    """What the clients got from one worker, and through the gateway."""
    ports = (lone_worker.facts["port"], lone_worker.facts["grpc_port"])
    if request.param == "gateway":
        ports = (world.settings.port, world.settings.grpc_port)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *map(str, ports)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
def test_health(found, way):
    got = found[way]
    assert [got[what] for what in ("live", "ready", "model ready", "version ready")] == [True] * 4


@pytest.mark.parametrize("way", WAYS)
def test_inference(world, found, way):
    every, expected = found[way]["every"], predict(world.url, TEXTS)
    assert every["label"] == [one["label"] for one in expected]
    assert every["score"] == pytest.approx([one["score"] for one in expected])
    assert every["shape of prediction_id"] == [3] and len(set(every["prediction_id"])) == 3
    assert found[way]["said"] == ["mine", "1"]


@pytest.mark.parametrize("way", WAYS)
def test_chosen_outputs_and_top_k(found, way):
    top = found[way]["top"]
    assert (top["shape of top_labels"], top["shape of top_scores"], top["shape of score"]) == ([3, 2], [3, 2], [3])
    assert top["top_labels"][::2] == found[way]["every"]["label"]
    assert top["top_scores"][::2] == pytest.approx(top["score"])
    assert found[way]["left out"]


@pytest.mark.parametrize("way", WAYS)
def test_a_mistake_is_a_sentence(found, way):
    status = ["StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"] if way == "grpc" else ["422", "404"]
    assert found[way]["too many"] == [status[0], "300 rows, at most 256 are taken at once"]
    assert found[way]["another"] == [status[1], "model 'another' is not served here: helpdesk is"]


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_metadata(found, way):
    name, extensions, model = found["metadata"][way]
    assert (name, extensions) == ("tokka", ["binary_tensor_data"])
    assert (model["name"], model["versions"]) == ("helpdesk", ["1"])
    assert [one["name"] for one in model["inputs"]] == ["text"]
    assert [one["datatype"] for one in model["outputs"]] == ["BYTES", "BYTES", "FP64"]
