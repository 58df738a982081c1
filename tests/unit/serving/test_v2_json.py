"""Tensors behind the JSON of a v2 request, and behind the JSON of its answer."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.serving.predict_api import BadRequest
from tokka.serving.v2_json import BINARY, parse_infer, read_strings, write_answer, write_tensor

ANSWERS = [
    {
        "prediction_id": f"id.{number}", "model_version": "3", "canary": False, "label": label, "score": 0.5,
        "top": [{"label": label, "score": 0.5}, {"label": "b", "score": 0.25}],
    }
    for number, label in enumerate(["a", "名前"])
]  # fmt: skip


def request(*texts, size=None, rest=b"", **more):
    """A request whose one tensor follows the JSON: body and headers."""
    tensor = write_tensor("BYTES", texts)
    parameters = {"binary_data_size": len(tensor) if size is None else size}
    item = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "parameters": parameters}
    head = json.dumps({"inputs": [item], **more}).encode()
    return head + tensor + rest, {BINARY: str(len(head))}


@given(st.lists(st.text(), max_size=5))
@settings(deadline=None)
def test_what_is_written_is_read_again(texts):
    assert read_strings(write_tensor("BYTES", texts)) == texts
    assert parse_infer(*request(*texts)).columns == {"text": texts}


def test_tensors_follow_one_another_in_the_order_of_the_inputs_that_have_no_data():
    first, last = write_tensor("BYTES", ["a", "b"]), write_tensor("BYTES", ["c", "d"])
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(content)}}
        for name, content in (("text", first), ("text_pair", last))
    ]
    head = json.dumps({"inputs": inputs}).encode()
    found = parse_infer(head + first + last, {BINARY: str(len(head))})
    assert found.columns == {"text": ["a", "b"], "text_pair": ["c", "d"]}
    assert not found.binary


@pytest.mark.parametrize(
    "body, headers",
    [
        request("a", size=4),
        request("a", size=-1),
        request("a", size="5"),
        request("a", size=True),
        (request("a")[0], {BINARY: "1000000"}),
        (request("a")[0], {BINARY: "-1"}),
        (request("a")[0], {BINARY: "٣"}),
        (request("a")[0], {}),
        (request("a")[0][:-1], request("a")[1]),
        (b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}', {}),
        (request("a")[0].replace(b"\x01\x00\x00\x00a", b"\x01\x00\x00\x00\xff"), request("a")[1]),
        (request("a")[0].replace(b"\x01\x00\x00\x00a", b"\xff\xff\xff\xffa"), request("a")[1]),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(body, headers):
    with pytest.raises(BadRequest) as refused:
        parse_infer(body, headers)
    assert refused.value.status == 400


def test_an_answer_has_those_tensors_as_bytes_that_are_wanted_so():
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "top_scores"}]
    call = parse_infer(*request("a", "b", outputs=outputs, parameters={"top_k": 2}))
    body, headers = write_answer(call, ANSWERS, call.tensors("classification"), name="m")
    head = json.loads(body[: int(headers[BINARY])])
    label, scores = head["outputs"]
    assert (label["name"], label["parameters"], "data" in label) == ("label", {"binary_data_size": 15}, False)
    assert read_strings(body[int(headers[BINARY]) :]) == ["a", "名前"]
    assert (scores["shape"], scores["data"], "parameters" in scores) == ([2, 2], [0.5, 0.25] * 2, False)
    assert headers["content-type"] == "application/octet-stream"


def test_all_of_them_when_none_is_named_and_the_request_says_so():
    call = parse_infer(*request("a", "b", parameters={"binary_data_output": True}))
    body, headers = write_answer(call, ANSWERS, call.tensors("classification"), name="m")
    head = json.loads(body[: int(headers[BINARY])])
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"]]
    assert len(body) == int(headers[BINARY]) + sum(sizes)
    assert struct.unpack("<2d", body[-sizes[-1] :]) == (0.5, 0.5)


def test_an_answer_without_them_is_json_alone():
    call = parse_infer(b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}')
    body, headers = write_answer(call, ANSWERS, call.tensors("classification"), name="m")
    assert headers == {} and json.loads(body)["outputs"][1]["data"] == ["a", "名前"]
