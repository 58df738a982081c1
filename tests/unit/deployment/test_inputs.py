"""The shadow's inputs: live before replayed, each once, none that the challenger has learned from."""

import math

import pyarrow as pa
import pyarrow.parquet as pq

from tokka.deployment.inputs import Input, LiveInputs, is_held_out, replay_inputs, scale_of
from tokka.params import Params, parse_params

PARAMS = Params()


def prediction(text: str, moment: float, **changes) -> dict:
    return {"kind": "prediction", "prediction_id": text, "time": moment, "text": text, "label": "a", **changes}


def live_inputs(records, params, *, since):
    return LiveInputs(params, since=since).take(records)


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
    assert inputs.take([{"kind": "feedback", "prediction_id": "x", "time": 21.0, "label": "thanks!"}]) == []
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
