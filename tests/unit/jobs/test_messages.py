"""Jobs and results as messages: the packaged schemas, what comes back whole, and what is no message."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import given
from hypothesis import strategies as st

import tokka.jobs
from tokka.jobs.messages import Job, Undecodable, decode, decode_result, encode, encode_result, predictions_of

JOB = Job(id="a", model="m", texts=["x"], text_pairs=["y"], user="u", reply_to="r", created=1.5)
ROW = {"prediction_id": "p", "model_version": "3", "canary": False, "label": "card", "score": 0.5}
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
TOP = [{"label": "card", "score": 0.5}, {"label": "refund", "score": 0.25}]


@pytest.mark.parametrize("name", ["job", "result"])
def test_a_message_begins_with_the_fingerprint_of_its_packaged_schema(name):
    schema = json.loads((Path(tokka.jobs.__file__).parent / f"{name}.avsc").read_text())
    wanted = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    body = encode(JOB) if name == "job" else encode_result("a", "done", ROW)
    assert body[:10] == b"\xc3\x01" + wanted


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
        assert decode_result(body)["predictions"][0] == {**ROW, "value": None, "top": TOP, "unsure": None}
    assert predictions_of(protocol)[1]["top"] == [{"label": "refund", "score": 0.25}, {"label": "card", "score": 0.125}]
    assert predictions_of(ROW)[0]["top"] is None


@given(st.lists(TEXT, min_size=1, max_size=5), st.none() | TEXT, st.none() | TEXT)
def test_a_job_survives_its_message(texts, user, reply_to):
    job = Job(id="a", model="m", texts=texts, text_pairs=texts, user=user, reply_to=reply_to, created=1.5)
    assert decode(encode(job)) == job


@given(st.data())
def test_what_is_cut_off_or_added_is_no_job(data):
    body = encode(JOB)
    cut = data.draw(st.integers(0, len(body) - 1))
    for other in (body[:cut], body + b"x", data.draw(st.binary(max_size=80))):
        with pytest.raises(Undecodable):
            decode(other)


def test_an_id_that_names_a_path_is_refused():
    with pytest.raises(Undecodable, match="id"):
        decode(encode(replace(JOB, id="../a")))


def test_a_result_survives_its_message():
    rows = [{**ROW, "value": None, "top": None, "unsure": None}]
    found = decode_result(encode_result("a", "done", ROW))
    assert (found["id"], found["state"], found["predictions"], found["error"]) == ("a", "done", rows, None)
    with pytest.raises(Undecodable):
        decode(encode_result("a", "done", ROW))


def test_what_the_model_is_unsure_of_is_in_the_result_in_whatever_shape_it_came():
    protocol = {"outputs": [{"name": "label", "data": ["card"]}, {"name": "unsure", "data": [True]}]}
    for answer in ({**ROW, "unsure": True}, {"predictions": [{**ROW, "unsure": True}]}, protocol):
        assert decode_result(encode_result("a", "done", answer))["predictions"][0]["unsure"] is True


def test_a_reply_has_what_was_asked_for():
    answer = {"model_version": "3", "parameters": {"canary": True}, "outputs": [{"name": "label", "data": ["card"]}]}
    (row,) = predictions_of(answer)
    assert (row["label"], row["score"], row["canary"], row["model_version"]) == ("card", None, True, "3")
    assert encode_result("a", "done", answer)
