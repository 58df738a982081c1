"""One revision's answers: what is said, what is logged, who is a canary; with a real model in this process."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.fixtures.models import LABELS, make_model
from tokka.request_log.log import Writer, read
from tokka.serving.batching import Overloaded
from tokka.serving.engine import Engine, Row
from tokka.serving.options import WorkerOptions
from tokka.serving.predict_api import BadRequest
from tokka.serving.rest import RestApp
from tokka.serving.service import Context, Service
from tokka.serving.v2_json import InferCall, column, write_tensor

OPTIONS = WorkerOptions(model_dir=Path("model"), ready_file=Path("ready.json"), name="helpdesk", version="7")


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    shapes = {"classes": {}, "value": {"labels": ()}, "pairs": {"pairs": True}}
    for name, shape in shapes.items():
        make_model(root / name, seed=5, **shape)
    return {name: Engine.load(root / name) for name in shapes}


def answer(engine, rows, context, folder=None, *, store_text=True):
    writer = Writer(folder, "worker") if folder else None
    service = Service(engine, OPTIONS.model_copy(update={"store_text": store_text}), writer)
    return asyncio.run(service.answer(rows, context))


def test_a_class_with_its_score(engines, tmp_path):
    (found,) = answer(engines["classes"], [Row("my card")], Context("id"), tmp_path)
    assert found["label"] in LABELS
    assert {"prediction_id", "model_version", "canary", "label", "score"} == set(found)
    (logged,) = read(tmp_path)
    assert logged["digest"] == engines["classes"].digest
    assert (logged["text"], logged["length"] > 2, logged["unknown"]) == ("my card", True, 0.0)


def test_the_most_probable_classes_best_first(engines):
    rows = [Row("my card"), Row("my card", None, 2), Row("my printer", None, 20)]
    plain, two, every = answer(engines["classes"], rows, Context("id"))
    assert "top" not in plain
    assert [len(two["top"]), len(every["top"])] == [2, len(LABELS)]
    for found in (two, every):
        assert found["top"][0] == {"label": found["label"], "score": found["score"]}
        scores = [one["score"] for one in found["top"]]
        assert scores == sorted(scores, reverse=True)
    assert {one["label"] for one in every["top"]} == set(LABELS)
    assert sum(one["score"] for one in every["top"]) == pytest.approx(1.0, abs=1e-5)


def test_a_regression_has_no_classes_to_name(engines):
    with pytest.raises(BadRequest, match="no classes"):
        answer(engines["value"], [Row("my card", None, 2)], Context("id"))


def test_a_value_for_regression(engines, tmp_path):
    (found,) = answer(engines["value"], [Row("my card")], Context("id"), tmp_path)
    assert set(found) == {"prediction_id", "model_version", "canary", "value"}
    assert read(tmp_path)[0]["value"] == found["value"]


def test_pairs_are_two_texts(engines, tmp_path):
    rows = [Row("card", "refund"), Row("card", "printer")]
    first, second = answer(engines["pairs"], rows, Context("id"), tmp_path)
    assert first["score"] != second["score"]
    assert {record["text_pair"] for record in read(tmp_path)} == {"refund", "printer"}


def test_text_is_kept_only_when_it_may_be(engines, tmp_path):
    answer(engines["classes"], [Row("a secret")], Context("id"), tmp_path, store_text=False)
    assert "secret" not in (next(tmp_path.iterdir())).read_text()


def test_a_full_disk_costs_the_record_and_not_the_answer(engines, caplog):
    class Full:
        def append(self, records):
            raise OSError(28, "No space left on device")

    service = Service(engines["classes"], OPTIONS, Full())

    async def run():
        return [await service.answer([Row("my card")], Context("id")) for _ in range(3)]

    assert all(found[0]["label"] in LABELS for found in asyncio.run(run()))
    assert caplog.text.count("No space left") == 1


def test_a_shadow_request_leaves_no_trace(engines, tmp_path):
    assert answer(engines["classes"], [Row("x")], Context("id", shadow=True), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_canary_is_who_is_not_the_champion_wherever_the_request_was_sent(engines):
    own = f"7@{engines['classes'].digest}"
    service = Service(engines["classes"], OPTIONS, None)
    assert service.is_canary(Context("id", champion="6@ff")) is True
    assert service.is_canary(Context("id", champion=own, assigned=True)) is False
    assert service.is_canary(Context("id")) is False


def test_headers_are_read_and_nonsense_counts_as_absent():
    context = Context.from_headers({"x-request-id": "a", "x-tokka-share": "0.25", "x-tokka-replayed": "1"})
    assert (context.request_id, context.share, context.replayed, context.shadow) == ("a", 0.25, True, False)
    assert Context.from_headers({"x-tokka-share": "lots"}).share == 0.0
    assert len(Context.from_headers({}).request_id) == 32


@pytest.mark.parametrize(
    ("model", "texts", "names"),
    [
        ("classes", {"text": ["my card", "my order"]}, ["prediction_id", "label", "score"]),
        ("value", {"text": ["my card"]}, ["prediction_id", "value"]),
        ("pairs", {"text": ["my card"], "text_pair": ["my order"]}, ["prediction_id", "label", "score"]),
    ],
)
def test_a_v2_request_names_what_it_answers_with(engines, model, texts, names):
    door = RestApp(Service(engines[model], OPTIONS, None))
    inputs = [{"name": name, "datatype": "BYTES", "shape": [len(rows)], "data": rows} for name, rows in texts.items()]
    body, sent = json.dumps({"id": "mine", "inputs": inputs}).encode(), []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/v2/models/helpdesk/versions/7/infer", "method": "POST", "headers": []}
    asyncio.run(door(scope, receive, send))
    answer = json.loads(sent[1]["body"])
    assert (sent[0]["status"], answer["id"], answer["model_version"]) == (200, "mine", "7")
    assert [output["name"] for output in answer["outputs"]] == names
    assert all(output["shape"] == [len(texts["text"])] == [len(output["data"])] for output in answer["outputs"])


def test_what_is_refused_is_not_even_read(engines, monkeypatch):
    service = Service(engines["classes"], OPTIONS, None)

    def refuse(rows):
        raise Overloaded(f"no room for {rows}")

    monkeypatch.setattr(service._batcher, "require_room", refuse)
    monkeypatch.setattr(service.engine, "prepare", lambda rows: pytest.fail("read"))
    with pytest.raises(Overloaded):
        asyncio.run(service.answer([Row("my card")], Context("id")))


def test_a_worker_whose_model_gives_nothing_says_that_it_is_not_well(engines, monkeypatch):
    service = Service(engines["classes"], OPTIONS, None)
    door = RestApp(service)

    async def ask():
        sent = []

        async def send(message):
            sent.append(message)

        await door({"type": "http", "path": "/health", "method": "GET", "headers": []}, None, send)
        return sent[0]["status"]

    assert asyncio.run(ask()) == 200
    monkeypatch.setattr(service._batcher, "stalled_seconds", lambda: 61.0)
    assert asyncio.run(ask()) == 503


def test_below_the_threshold_an_answer_is_unsure_and_says_so_over_both_protocols(engines):
    engine = engines["classes"]
    (plain,) = answer(engine, [Row("my card")], Context("id"))
    assert "unsure" not in plain
    for threshold, unsure in ((plain["score"] / 2, False), ((1 + plain["score"]) / 2, True)):
        service = Service(engine, OPTIONS.model_copy(update={"threshold": threshold}), None)
        (found,) = asyncio.run(service.answer([Row("my card")], Context("id")))
        assert (found["unsure"], found["label"], found["score"]) == (unsure, plain["label"], plain["score"])
        call = InferCall({"text": ["my card", "my card"]})
        tensors, answers = asyncio.run(service.infer(call, Context("id")))
        assert tensors["unsure"] == "BOOL"
        assert column("unsure", answers) == ([2], [unsure, unsure])
        assert write_tensor("BOOL", [unsure, unsure]) == bytes([unsure, unsure])


def test_a_set_at_a_level_is_asked_for_by_the_level_and_grows_with_it(engines, monkeypatch):
    engine = engines["classes"]
    with pytest.raises(BadRequest, match="made without prediction sets"):
        answer(engine, [Row("my card", None, 0, "0.9")], Context("id"))
    (every,) = answer(engine, [Row("my card", None, 20)], Context("id"))
    scores = [one["score"] for one in every["top"]]
    monkeypatch.setattr(engine, "limits", {"0.8": 0.9999, "0.9": scores[1], "0.99": 0.0})
    rows = [Row("my card", None, 0, level) for level in ("0.8", "0.9", "0.99", "")]
    sets = [found.get("set") for found in answer(engine, rows, Context("id"))]
    names = [one["label"] for one in every["top"]]
    assert sets == [names[:1], names[:2], names, None]
    with pytest.raises(BadRequest, match=r"level 0\.5: this model knows 0\.8, 0\.9, 0\.99"):
        answer(engine, [Row("my card", None, 0, "0.5")], Context("id"))
    with pytest.raises(BadRequest, match="no classes"):
        answer(engines["value"], [Row("my card", None, 0, "0.9")], Context("id"))
    service = Service(engine, OPTIONS, None)
    call = InferCall({"text": ["my card"]}, level="0.9")
    tensors, answers = asyncio.run(service.infer(call, Context("id")))
    assert tensors["set"] == "BYTES"
    assert json.loads(column("set", answers)[1][0]) == names[:2]
