"""Inputs of the shadow: live before replayed, each once, none that the challenger has learned from."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokka.deployment.inputs import Input, LiveInputs, is_held_out, replay_inputs, scale_of
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer
from tokka.deployment.shadow import BATCH, Shadow
from tokka.errors import TokkaError
from tokka.params import Params, parse_params

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
PARAMS = Params()


def prediction(text: str, moment: float, **changes) -> dict:
    return {"kind": "prediction", "prediction_id": text, "time": moment, "text": text, "label": "a", **changes}


def live_inputs(records, params, *, since):
    return LiveInputs(params, since=since).take(records)


def shadow(asked: list | None = None) -> Shadow:
    """Both models say "a", and what they are asked is noted."""

    def ask(digest, rows):
        if asked is not None:
            asked.append((digest[0], [row["text"] for row in rows]))
        return [Answer(label="a")] * len(rows)

    return Shadow(ask, None, 250.0)


def test_each_input_is_asked_once_live_ones_first():
    asked: list = []
    pairs = shadow(asked).ask_more(
        ONE, TWO, [Input("Hi!"), Input("hi")], [Input("hi", target="a", replayed=True), Input("there", replayed=True)]
    )
    assert sorted(asked) == [("a", ["Hi!", "there"]), ("b", ["Hi!", "there"])]
    assert (pairs.difference.size, pairs.replayed.tolist(), pairs.exhausted) == (2, [0.0, 1.0], True)


def test_batches_add_up_and_end_with_the_inputs():
    inputs = [Input(f"message {number}") for number in range(BATCH + 3)]
    here = shadow()
    assert not here.ask_more(ONE, TWO, inputs, []).exhausted
    pairs = here.ask_more(ONE, TWO, [], [])
    assert pairs.exhausted and pairs.difference.size == BATCH + 3
    assert here.ask_more(ONE, TWO, inputs, []).difference.size == BATCH + 3, "no input is asked twice"


def test_a_live_input_that_comes_while_others_wait_is_asked_before_what_was_replayed():
    asked: list = []
    here = shadow(asked)
    here.ask_more(ONE, TWO, [Input(f"old {number}", replayed=True) for number in range(BATCH + 9)], [])
    here.ask_more(ONE, TWO, [Input("live")], [Input("held out", target="a", replayed=True)])
    assert asked[-1][1][0] == "live" and asked[-1][1][-1] == "held out"


def test_inputs_that_nobody_could_be_asked_are_asked_later():
    ready = []

    def ask(digest, rows):
        if not ready:
            raise TokkaError("nobody is ready")
        return [Answer(label="a")] * len(rows)

    here = Shadow(ask, None, 250.0)
    with pytest.raises(TokkaError):
        here.ask_more(ONE, TWO, [Input("x")], [])
    ready.append(True)
    assert here.ask_more(ONE, TWO, [], []).difference.size == 1


def test_a_champion_that_fails_is_no_evidence_and_a_challenger_that_fails_is():
    def ask(digest, rows):
        broken = {"a": "old", "b": "new"}[digest[0]]
        return [Answer(error="500") if row["text"] == broken else Answer(label="a") for row in rows]

    pairs = Shadow(ask, None, 250.0).ask_more(ONE, TWO, [Input("old"), Input("new"), Input("both")], [])
    assert pairs.difference.tolist() == [-1.0, 0.0]
    assert pairs.failed == 1


def test_who_was_slow_is_noted_pair_by_pair():
    def ask(digest, rows):
        slow = {"a": ("old", "both"), "b": ("new", "both")}[digest[0]]
        return [Answer(label="a", latency_ms=900.0 if row["text"] in slow else 5.0) for row in rows]

    inputs = [Input("old"), Input("new"), Input("both"), Input("none")]
    assert Shadow(ask, None, 250.0).ask_more(ONE, TWO, inputs, []).speed.tolist() == [1.0, -1.0, 0.0, 0.0]


def test_what_was_logged_after_the_registration_was_not_learned_from():
    records = [
        prediction("late", 20.0),
        prediction("replayed", 20.0, replayed=True),
        prediction("late pair", 20.0, text_pair="b"),
        {"kind": "feedback", "prediction_id": "late", "time": 21.0, "label": "b"},
        {"kind": "request", "prediction_id": "late", "time": 20.0},
        {**prediction("no text", 20.0), "text": None},
    ]
    found = live_inputs(records, PARAMS, since=10.0)
    assert found == [Input("late", target="b"), Input("late pair", "b"), Input("replayed", replayed=True)]


def test_each_record_is_taken_once_and_a_truth_that_comes_later_is_told():
    inputs = LiveInputs(PARAMS, since=10.0)
    assert [entry.text for entry in inputs.take([prediction("a", 20.0), prediction("b", 20.0)])] == ["a", "b"]
    assert inputs.take([]) == []
    assert inputs.take([{"kind": "feedback", "prediction_id": "b", "time": 30.0, "label": "x"}]) == [
        Input("b", target="x")
    ]
    early = {"kind": "feedback", "prediction_id": "c", "time": 30.0, "label": "y"}
    assert inputs.take([early]) == [] and inputs.take([prediction("c", 29.0)])[0].target == "y"


def test_of_what_was_logged_before_only_the_hash_of_the_test_split_is_used():
    records = [prediction(f"message {number}", 5.0) for number in range(400)]
    found = live_inputs(records, PARAMS, since=10.0)
    assert 0.08 < len(found) / 400 < 0.23
    assert all(is_held_out(entry, PARAMS) for entry in found)
    official = parse_params({"data": {"test": "test.csv"}})
    assert live_inputs(records, official, since=10.0) == []
    grouped = parse_params({"task": {"group": "user"}})
    assert live_inputs(records, grouped, since=10.0) == []
    empty = parse_params({"data": {"test": ""}, "task": {"group": ""}})
    assert live_inputs(records, empty, since=10.0) == found


def test_feedback_with_a_label_that_no_model_gives_settles_nothing():
    """Both would be wrong by it: a disagreement that had to be taken for a loss would become a tie."""
    inputs = LiveInputs(PARAMS, since=10.0, classes={"a", "b"})
    inputs.take([prediction("x", 20.0)])
    assert inputs.take([{"kind": "feedback", "prediction_id": "x", "time": 21.0, "label": "thanks!"}])[0].target is None
    assert inputs.take([{"kind": "feedback", "prediction_id": "x", "time": 22.0, "label": "b"}])[0].target == "b"


def test_feedback_on_a_value_is_a_number():
    records = [prediction("a", 20.0), {"kind": "feedback", "prediction_id": "a", "time": 21.0, "value": 3}]
    assert live_inputs(records, PARAMS, since=10.0)[0].target == 3.0


def test_replayed_rows_come_in_a_random_order_that_a_seed_repeats(tmp_path):
    rows = [{"text": f"t {number}", "target": "a" if number < 50 else "b"} for number in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "replay.parquet")
    first, again, other = (replay_inputs(tmp_path / "replay.parquet", seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(entry.text for entry in first) == sorted(row["text"] for row in rows)
    assert {entry.target for entry in first[:20]} == {"a", "b"}
    assert all(entry.replayed for entry in first)


def test_the_scale_of_values_is_their_spread():
    assert scale_of([Input("a", target=1.0), Input("b", target=3.0)]) == 1.0
    assert scale_of([Input("a", target=1.0)]) == scale_of([]) == scale_of([Input("a", target=math.nan)]) == 1.0
