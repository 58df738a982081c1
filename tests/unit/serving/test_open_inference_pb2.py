"""The messages of the protocol: made from the .proto that lies beside them, and loadable beside anybody's stubs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tokka.serving import open_inference_pb2 as messages

FOLDER = Path(messages.__file__).parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What protoc makes of the .proto."""
    out = tmp_path_factory.mktemp("made")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--python_out={out}", f"--pyi_out={out}"]
    subprocess.run([*command, "open_inference.proto"], check=True)
    return out


@pytest.mark.parametrize("name", ["open_inference_pb2.py", "open_inference_pb2.pyi"])
def test_the_generated_modules_are_those_of_the_proto(made, name):
    """Made anew by this test's own command; then the descriptor pool is made the module's own, which protoc cannot."""
    generated = (made / name).read_text().replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
    assert (FOLDER / name).read_text() == generated


@pytest.mark.parametrize(
    "stubs", ["kserve.protocol.grpc.grpc_predict_v2_pb2", "tritonclient.grpc.service_pb2"], ids=["kserve", "triton"]
)
def test_other_stubs_of_the_same_package_can_be_loaded_too_and_read_the_same_bytes(stubs):
    code = f"""
import importlib
from tokka.serving import open_inference_pb2 as ours
theirs = importlib.import_module({stubs!r})
request = ours.ModelInferRequest(model_name="m", id="a", parameters={{"top_k": ours.InferParameter(int64_param=3)}})
tensor = request.inputs.add(name="text", datatype="BYTES", shape=[2])
tensor.contents.bytes_contents.extend([b"a", b"b"])
request.outputs.add(name="label")
request.raw_input_contents.append(b"x")
read = theirs.ModelInferRequest.FromString(request.SerializeToString(deterministic=True))
assert read.inputs[0].contents.bytes_contents[:] == [b"a", b"b"] and read.parameters["top_k"].int64_param == 3
assert ours.ModelInferRequest.FromString(read.SerializeToString()) == request
metadata = theirs.ModelMetadataResponse(name="m", versions=["1"], inputs=[{{"name": "text", "shape": [-1]}}])
assert ours.ModelMetadataResponse.FromString(metadata.SerializeToString()).inputs[0].shape[:] == [-1]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
