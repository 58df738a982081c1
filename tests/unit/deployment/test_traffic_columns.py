"""From lines of the request log to what the judge looks at."""

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.traffic_columns import KINDS, TrafficColumns
from tokka.request_log.log import Tail, Writer


def request(identity: str, **changes) -> dict:
    """A line of the gateway about a request that version 2 was meant for and answered."""
    line = {
        "kind": "request", "prediction_id": identity, "time": 1.0, "status": 200, "latency_ms": 10.0, "share": 0.25,
        "assigned": True, "canary": True, "version": "2", "replayed": False, "route": "predict",
    }  # fmt: skip
    return {**line, **changes}


def traffic_of(records, *, challenger: str = "2", slow_ms: float = 250.0, scale: float | None = None) -> Traffic:
    columns = TrafficColumns(challenger=challenger, slow_ms=slow_ms, scale=scale)
    columns.take(records)
    return columns.traffic()


def columns(*records: dict) -> dict[str, list[float]]:
    traffic = traffic_of(records, challenger="2", slow_ms=250.0)
    return {name: getattr(traffic, name).tolist() for name in ("canary", "share", "failed", "slow", "replayed")}


def test_the_log_is_read_request_by_request():
    assert columns(
        request("b", time=2.0, status=503, replayed=True),
        request("a", latency_ms=900.0, assigned=False, canary=False, version="1"),
        request("c", time=3.0, status=422, version=""),
    ) == {
        "canary": [0, 1],
        "share": [0.25] * 2,
        "failed": [0, 1],
        "slow": [1, 0],
        "replayed": [0, 1],
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
def test_who_is_refused_for_his_own_mistake_is_no_evidence(status):
    """Anybody without a key could otherwise make the good answers that a promotion needs."""
    assert columns(request("a", status=status, version=""))["canary"] == []


def test_what_the_model_server_itself_refuses_is_evidence():
    """The gateway lets the same requests through to both: who refuses more of them is the one that is wrong."""
    traffic = traffic_of([request("a", status=422), request("b", status=200)], challenger="2", slow_ms=250.0)
    assert (traffic.refused.tolist(), traffic.failed.tolist()) == ([1, 0], [0, 0])


def test_requests_of_one_user_share_a_key_and_all_others_have_their_own():
    lines = [request("a", key="77"), request("b"), request("c", key="77"), request("d", key="78"), request("e")]
    key = traffic_of(lines, challenger="2", slow_ms=250.0).key
    assert key[0] == key[2] and len(set(key.tolist())) == 4


def test_requests_stand_in_the_order_in_which_they_ended():
    """An answer that took long is logged late; put before what was judged already, it would change the past."""
    lines = [request("a", time=1.0, latency_ms=5000.0), request("b", time=2.0, status=503)]
    assert traffic_of(lines, challenger="2", slow_ms=250.0).failed.tolist() == [1, 0]


def test_the_first_feedback_counts_and_when_it_came():
    records = [
        request("a"),
        {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "2", "label": "x"},
        {"kind": "feedback", "prediction_id": "a", "time": 5.0, "label": "y"},
        {"kind": "feedback", "prediction_id": "a", "time": 9.0, "label": "x"},
    ]
    traffic = traffic_of(records, challenger="2", slow_ms=250.0)
    assert (traffic.wrong.tolist(), traffic.told.tolist()) == ([1.0], [5.0])


def test_an_answer_by_a_stand_in_is_a_failure_of_the_challenger():
    assert columns(request("a", canary=False, version="1"))["failed"] == [1]
    assert columns(request("a", canary=False, version="1"))["canary"] == [1]
    bare = {
        "kind": "request",
        "prediction_id": "a",
        "time": 1.0,
        "status": 200,
        "latency_ms": 1.0,
        "share": 0.5,
        "canary": True,
    }
    assert columns(bare, {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "1"})["failed"] == [1]


def test_requests_that_are_no_predictions_do_not_count():
    assert columns(request("a", route="feedback"))["canary"] == []


@pytest.mark.parametrize("row", ["a", "a.0"])
def test_feedback_finds_its_prediction_also_within_a_request_of_several_rows(row):
    records = [
        request("a"),
        {"kind": "prediction", "prediction_id": row, "time": 1.0, "version": "2", "label": "x"},
        {"kind": "feedback", "prediction_id": row, "time": 2.0, "label": "y"},
        request("b"),
    ]
    wrong = traffic_of(records, challenger="2", slow_ms=250.0).wrong
    assert wrong[0] == 1.0 and math.isnan(wrong[1])


def test_feedback_on_a_value_is_wrong_beyond_the_scale():
    def wrong(truth: object) -> float:
        records = [
            request("a"),
            {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "2", "value": 10.0},
            {"kind": "feedback", "prediction_id": "a", "time": 2.0, "value": truth},
        ]
        return float(traffic_of(records, challenger="2", slow_ms=250.0, scale=2.0).wrong[0])

    assert (wrong(11.0), wrong(13.0)) == (0.0, 1.0)
    assert math.isnan(wrong("much"))


@pytest.mark.parametrize(
    "line", [{}, {"kind": "other"}, {"kind": "request"}, {"kind": "request", "prediction_id": "a"}]
)
def test_a_line_that_makes_no_sense_is_no_evidence(line):
    traffic = traffic_of([line], challenger="2", slow_ms=250.0)
    assert traffic.usable().size == 0


@pytest.mark.parametrize(
    ("scale", "answer", "useless", "useful"),
    [(None, {"label": "x"}, {"label": "thanks!"}, {"label": "y"}), (None, {"label": "x"}, {"value": 1}, {"label": "y"}),
     (2.0, {"value": 9.0}, {"label": "x"}, {"value": 1.0})],
)  # fmt: skip
def test_feedback_that_says_nothing_does_not_keep_out_what_does(scale, answer, useless, useful):
    columns = TrafficColumns(challenger="2", slow_ms=250.0, scale=scale, classes={"x", "y"})
    told = {"kind": "feedback", "prediction_id": "a"}
    columns.take([request("a"), {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "2", **answer}])
    columns.take([{**told, "time": 2.0, **useless}])
    assert math.isnan(columns.traffic().wrong[0])
    columns.take([{**told, "time": 3.0, **useful}])
    assert (columns.traffic().wrong[0], columns.traffic().told[0]) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("answer", "truth", "wrong"),
    [("lost", "card", 0.0), ("lost", "lost", 0.0), ("card", "lost", 0.0), ("lost", "pin", 1.0), ("pin", "stolen", 1.0)],
)
def test_after_a_class_was_renamed_answers_and_labels_are_read_under_the_new_name(answer, truth, wrong):
    renamed = {"lost": "card", "stolen": "card", "spam": ""}
    columns = TrafficColumns(challenger="2", slow_ms=250.0, classes={"card", "pin"}, renamed=renamed)
    prediction = {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "1", "label": answer}
    columns.take([request("a"), prediction, {**prediction, "kind": "feedback", "time": 2.0, "label": truth}])
    assert columns.traffic().wrong.tolist() == [wrong]


def test_nothing_is_no_request():
    assert traffic_of([]).size == 0


def test_requests_are_told_apart_by_when_they_came_and_not_by_when_feedback_did():
    columns = TrafficColumns(challenger="2", slow_ms=250.0)
    columns.take([request("a", time=1.0), request("b", time=5.0)])
    columns.take([{"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "2", "label": "x"}])
    columns.take([{"kind": "feedback", "prediction_id": "a", "time": 9.0, "label": "y"}])
    assert columns.traffic(until=5.0).wrong.tolist() == [1.0]
    assert columns.traffic(since=5.0).size == 1


RECORDS = st.one_of(
    st.fixed_dictionaries({
        "kind": st.just("request"), "prediction_id": st.sampled_from("abcd"), "time": st.floats(1, 9),
        "route": st.sampled_from(["predict", "feedback"]), "status": st.sampled_from([200, 422, 503, None]),
        "latency_ms": st.sampled_from([1.0, 900.0]), "share": st.just(0.25), "assigned": st.booleans(),
        "version": st.sampled_from(["", "1", "2"]), "replayed": st.booleans(),
    }),
    st.fixed_dictionaries({
        "kind": st.just("prediction"), "prediction_id": st.sampled_from(["a", "b", "c.0", "c.1", "d"]),
        "time": st.floats(1, 9), "version": st.sampled_from(["1", "2"]), "label": st.sampled_from("xy"),
    }),
    st.fixed_dictionaries({
        "kind": st.just("feedback"), "prediction_id": st.sampled_from(["a", "b", "c.0", "d"]),
        "time": st.floats(1, 9), "label": st.sampled_from("xy"),
    }),
)  # fmt: skip


def plainly(records: list[dict]) -> list[tuple]:
    """The same, request by request and without a column, in the order in which they ended."""
    kinds = {kind: {one["prediction_id"]: one for one in records if one["kind"] == kind} for kind in KINDS}
    rows = []
    for name, one in kinds["request"].items():
        status = one["status"] or math.nan
        if one["route"] != "predict" or (400 <= status < 500 and not one["version"]):
            continue
        answer = kinds["prediction"].get(name) or kinds["prediction"].get(f"{name}.0")
        truth = kinds["feedback"].get(name) or kinds["feedback"].get(f"{name}.0")
        by = one["version"] or (answer or {"version": "2"})["version"]
        refused = 400 <= status < 500
        failed = not refused and ((one["assigned"] and by != "2") or not status < 500)
        wrong = float(answer["label"] != truth["label"]) if answer and truth else math.nan
        told = truth["time"] if answer and truth else math.nan
        slow = not failed and not refused and one["latency_ms"] > 250
        facts = (
            one["assigned"],
            one["share"],
            failed,
            slow,
            wrong,
            one["replayed"],
            refused,
            told,
        )
        rows.append((one["time"] + one["latency_ms"] / 1000, *map(float, facts)))
    return sorted(rows, key=str)


@given(st.lists(RECORDS, max_size=20, unique_by=lambda one: (one["kind"], one["prediction_id"])), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_columns_say_what_the_records_say_however_they_arrive(records, cut):
    with tempfile.TemporaryDirectory() as folder:
        log, columns = Tail(Path(folder)), TrafficColumns(challenger="2", slow_ms=250.0)
        for part in (records[:cut], records[cut:]):
            writer = Writer(Path(folder), "test")
            writer.append(part)
            writer.close()
            columns.take(log.poll().records)
            found = columns.traffic()
    names = ("canary", "share", "failed", "slow", "wrong", "replayed", "refused", "told")
    rows = sorted(zip(*(getattr(found, name).tolist() for name in names), strict=True), key=str)
    assert [*map(str, rows)] == sorted(str(row[1:]) for row in plainly(records))
