"""The packaged schemas in the messages, and top-k on its way through them."""

import json
from pathlib import Path

import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

import tokka.jobs
from tokka.jobs.gateway_client import question
from tokka.jobs.messages import Job, decode, decode_result, encode, encode_result, predictions_of

JOB = Job(id="a", model="m", texts=["x"], text_pairs=["y"], user="u", reply_to="r", created=1.5)
ROW = {"prediction_id": "p", "model_version": "3", "canary": False, "label": "card", "score": 0.5}
TOP = [{"label": "card", "score": 0.5}, {"label": "refund", "score": 0.25}]


@pytest.mark.parametrize("name", ["job", "result"])
def test_a_message_begins_with_the_fingerprint_of_its_packaged_schema(name):
    schema = json.loads((Path(tokka.jobs.__file__).parent / f"{name}.avsc").read_text())
    wanted = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    body = encode(JOB) if name == "job" else encode_result("a", "done", ROW)
    assert body[:10] == b"\xc3\x01" + wanted


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("text", {"text": "x", "top_k": 2}),
        ("texts", {"texts": ["x"], "top_k": 2}),
        (
            "infer",
            {
                "id": "a",
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}],
                "parameters": {"top_k": 2},
            },
        ),
    ],
)
def test_top_k_is_asked_for_as_the_endpoint_wants_it(shape, body):
    job = decode(encode(Job(id="a", model="m", texts=["x"], shape=shape, top_k=2)))
    assert question(job)[1] == body
    assert job.digest() != Job(id="a", model="m", texts=["x"], shape=shape).digest()


def test_the_classes_of_an_answer_are_in_the_result_in_whatever_shape_it_came():
    def output(name, data, *more):
        return {"name": name, "shape": [2, *more], "data": data}

    protocol = {
        "model_version": "3",
        "outputs": [
            output("prediction_id", ["p", "q"]),
            output("label", ["card", "refund"]),
            output("score", [0.5, 0.25]),
            output("top_labels", ["card", "refund", "refund", "card"], 2),
            output("top_scores", [0.5, 0.25, 0.25, 0.125], 2),
        ],
    }
    plain = {"predictions": [{**ROW, "top": TOP}]}
    for answer in (protocol, plain):
        body = encode_result("a", "done", answer)
        assert decode_result(body)["predictions"][0] == {**ROW, "value": None, "top": TOP}
    assert predictions_of(protocol)[1]["top"] == [{"label": "refund", "score": 0.25}, {"label": "card", "score": 0.125}]
    assert predictions_of(ROW)[0]["top"] is None
