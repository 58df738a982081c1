"""From answers and log lines to what the judge looks at."""

import math

import numpy as np
import pytest

from tokka.deployment.evidence import compare, pairs_of, traffic_of
from tokka.deployment.targets.base import Answer

A, B, BROKEN = Answer(label="a", score=0.9), Answer(label="b", score=0.6), Answer(error="500")


@pytest.mark.parametrize(
    ("champion", "challenger", "target", "expected"),
    [
        (A, A, None, (0.0, 0.0)),
        (A, A, "b", (0.0, 0.0)),
        (A, B, "b", (1.0, 1.0)),
        (A, B, "a", (-1.0, 1.0)),
        (A, B, "c", (0.0, 1.0)),
        (A, BROKEN, "a", (-1.0, 1.0)),
        (A, BROKEN, "b", (0.0, 1.0)),
        (A, BROKEN, None, (-1.0, 1.0)),
        (A, Answer(label=""), "a", (-1.0, 1.0)),
        (A, Answer(label="a", score=math.nan), "a", (-1.0, 1.0)),
        (BROKEN, A, "a", None),
    ],
)
def test_classes_are_compared_by_who_is_right(champion, challenger, target, expected):
    assert compare(champion, challenger, target, None) == expected


def test_a_disagreement_without_a_label_is_unknown():
    difference, apart = compare(A, B, None, None)
    assert math.isnan(difference)
    assert apart == 1.0


@pytest.mark.parametrize(
    ("champion", "challenger", "target", "expected"),
    [
        (10.0, 12.0, 12.0, (0.5, 0.5)),
        (10.0, 12.0, 10.0, (-0.5, 0.5)),
        (10.0, 99.0, 10.0, (-1.0, 1.0)),
        (10.0, 10.0, 3.0, (0, 0)),
    ],
)
def test_values_are_compared_by_their_errors_in_units_of_the_scale(champion, challenger, target, expected):
    assert compare(Answer(value=champion), Answer(value=challenger), target, 4.0) == expected


def test_a_value_that_is_no_number_is_a_failure():
    assert compare(Answer(value=1.0), Answer(value=math.inf), 1.0, 4.0) == (-1.0, 1.0)
    assert compare(Answer(value=1.0), Answer(label="a"), 1.0, 4.0) == (-1.0, 1.0)


def request(identity: str, **changes) -> dict:
    """A line of the gateway about a request that version 2 was meant for and answered."""
    line = {
        "kind": "request", "prediction_id": identity, "time": 1.0, "status": 200, "latency_ms": 10.0, "share": 0.25,
        "assigned": True, "canary": True, "version": "2", "replayed": False, "route": "predict",
    }  # fmt: skip
    return {**line, **changes}


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
    assert not traffic.usable().any()


def test_nothing_is_empty_columns():
    assert traffic_of([], challenger="2", slow_ms=1.0).size == 0
    assert pairs_of([]).difference.shape == (0,)
    assert np.isnan(pairs_of([(math.nan, 1.0, 0.0)]).difference).all()
