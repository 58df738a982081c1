"""Messages of the schemas before and of today's: each side reads the other's; and top-k on its way through them."""

import json
from io import BytesIO
from pathlib import Path

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

import tokka.jobs
from tokka.jobs.consumer import digest_of
from tokka.jobs.gateway_client import question
from tokka.jobs.messages import Job, decode, decode_result, encode, encode_result
from tokka.jobs.predictions import predictions_of

SCHEMAS = Path(tokka.jobs.__file__).parent / "schemas"
JOB = Job(id="a", model="m", texts=["x"], text_pairs=["y"], user="u", reply_to="r", created=1.5)
ROW = {"prediction_id": "p", "model_version": "3", "canary": False, "label": "card", "score": 0.5}
TOP = [{"label": "card", "score": 0.5}, {"label": "refund", "score": 0.25}]


def schema(name):
    return fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.avsc").read_text()))


def as_before(name, tree):
    """A message as whoever has the former schema writes it."""
    written, body = schema(f"former/{name}-1"), BytesIO()
    fastavro.schemaless_writer(body, written, tree)
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(written), "CRC-64-AVRO")) + body.getvalue()


def read_as_before(name, body):
    """A message of today as whoever has the former schema resolves it."""
    return fastavro.schemaless_reader(BytesIO(body[10:]), schema(name), schema(f"former/{name}-1"))


def test_a_job_of_the_former_schema_is_still_one():
    fields = [field["name"] for field in schema("former/job-1")["fields"]]
    body = as_before("job", {**{name: getattr(JOB, name) for name in fields}, "created": 1_500_000})
    assert decode(body) == JOB
    assert digest_of(decode(body)) == digest_of(JOB)


def test_a_result_of_the_former_schema_is_still_one():
    tree = {"id": "a", "state": "done", "predictions": [{**ROW, "value": None}], "error": None, "completed": 0}
    (row,) = decode_result(as_before("result", tree))["predictions"]
    assert row == {**ROW, "value": None, "top": None}


def test_who_has_the_former_schemas_reads_todays_messages():
    found = read_as_before("job", encode(Job(id="a", model="m", texts=["x"], top_k=3, outputs=["label"])))
    assert (found["texts"], "top_k" in found, "outputs" in found) == (["x"], False, False)
    (row,) = read_as_before("result", encode_result("a", "done", [{**ROW, "top": TOP}], None))["predictions"]
    assert row == {**ROW, "value": None}


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
    assert digest_of(job) != digest_of(Job(id="a", model="m", texts=["x"], shape=shape))


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
        body = encode_result("a", "done", predictions_of(answer), None)
        assert decode_result(body)["predictions"][0] == {**ROW, "value": None, "top": TOP}
    assert predictions_of(protocol)[1]["top"] == [{"label": "refund", "score": 0.25}, {"label": "card", "score": 0.125}]
    assert predictions_of(ROW)[0]["top"] is None
