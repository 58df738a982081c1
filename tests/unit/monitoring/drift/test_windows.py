"""Windows never shift or mix versions, and labels are only what somebody said."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.monitoring.conftest import Traffic, feedback
from tokka.monitoring.drift.windows import count_since, cut, labelled, predictions


def record(number: int, **more: Any) -> dict[str, Any]:
    row = {"kind": "prediction", "prediction_id": f"p{number}", "time": float(number), "version": "1"}
    return {**row, "text": f"text {number}", "label": "a", **more}


@given(rows=st.integers(0, 60), size=st.integers(1, 20), more=st.integers(0, 40), seed=st.randoms())
def test_a_full_window_stays_what_it_is_as_the_log_grows(rows: int, size: int, more: int, seed: Any) -> None:
    early = [record(number) for number in range(rows)]
    late = [record(number) for number in range(rows, rows + more)]
    before = cut(early, size)
    shuffled = early + late
    seed.shuffle(shuffled)
    after = cut(shuffled, size)
    assert after.windows[: len(before.windows)] == before.windows
    assert all(len(window.rows) == size for window in after.windows)
    assert sum(len(window.rows) for window in after.windows) + len(after.rest) == rows + more
    assert len(after.rest) < size


def test_only_what_users_got_from_this_version_counts() -> None:
    rows = [
        record(1),
        record(1, time=1.5),
        record(2, version="2", canary=True),
        record(3, shadow=True),
        record(4, replayed=True, text="a test row"),
        record(5, replayed=True, text="a demonstration"),
        {"kind": "request", "prediction_id": "p6", "time": 6.0, "status": 200},
    ]
    found = cut(rows, 2, "1", frozenset({"a test row", "text 1"}))
    assert [row["prediction_id"] for row in found.windows[0].rows] == ["p1", "p5"]
    assert found.windows[0].replayed == 1
    assert found.windows[0].describe()["rows"] == 2


def test_labels_come_from_people_alone() -> None:
    rows = [record(number) for number in range(7)]
    rows[4]["text"] = ""
    del rows[5]["text"]
    told = [
        feedback(rows[0], "b"),
        feedback(rows[0], "c") | {"time": 9.0},
        feedback(rows[1], "b", source="model"),
        feedback(rows[2], ""),
        feedback(rows[4], "b"),
        feedback(rows[5], "b"),
        {"kind": "feedback", "prediction_id": "unheard of", "time": 3.0, "label": "b"},
    ]
    assert labelled([*told, *rows]) == [{"text": "text 0", "label": "c", "time": 9.0}]


def test_a_text_that_was_labelled_twice_counts_once_with_its_last_label() -> None:
    rows = [record(1, text="same"), record(2, text="same"), record(3, text="same", text_pair="other")]
    found = labelled([*rows, feedback(rows[0], "a"), feedback(rows[1], "b"), feedback(rows[2], "c")])
    assert [(row["label"], row.get("text_pair")) for row in found] == [("b", None), ("c", "other")]
    assert count_since(found, 2.5) == 1


def test_numbers_are_labels_of_a_regression() -> None:
    row = record(1)
    told = {"kind": "feedback", "prediction_id": "p1", "time": 2.0, "value": 0.0}
    assert labelled([row, told])[0]["label"] == 0.0


def test_retried_requests_and_feedback_are_joined(traffic: Traffic) -> None:
    rows = traffic.rows(3)
    found = predictions([feedback(rows[1], "x"), *rows, *rows])
    assert [(row["feedback"] or {}).get("label") for row in found] == [None, "x", None]
