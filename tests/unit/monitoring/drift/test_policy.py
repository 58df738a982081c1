"""The policy retrains on confirmed drift with labels, and on nothing that could loop, run twice or learn breakage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import UsageError
from tokka.monitoring.drift.drift import WindowDrift
from tokka.monitoring.drift.policy import HOUR, Attempt, Facts, decide, learned_until, unhelpful_in_a_row
from tokka.sections_serving import Monitoring, Retraining

NOW = 10_000_000.0
MONITORING, RETRAINING = Monitoring(), Retraining()
DAY = 24 * HOUR


def windows(*verdicts: str, quality: tuple[str, ...] = ()) -> tuple[WindowDrift, ...]:
    found = [WindowDrift(number + 1, verdict, 0.001, 250) for number, verdict in enumerate(verdicts)]  # type: ignore[arg-type]
    return (*found[:-1], WindowDrift(len(found), found[-1].verdict, 0.001, 250, quality=quality))


def facts(**changes: Any) -> Facts:
    good = {"cause": "drift", "now": NOW, "windows": windows("clean", "drifted", "drifted"), "labelled_rows": 500}
    return Facts(**{**good, "trigger_key": "new", **changes})


def attempt(hours_ago: float, outcome: str = "promoted", key: str = "old", cause: str = "drift") -> Attempt:
    return Attempt(NOW - hours_ago * HOUR, cause, key, outcome)


def verdict(**changes: Any) -> tuple[str, str]:
    decision = decide(facts(**changes), MONITORING, RETRAINING)
    return decision.verdict, " ".join(decision.reasons)


def test_confirmed_drift_with_labels_retrains() -> None:
    assert verdict()[0] == "retrain"


@pytest.mark.parametrize(
    ("changes", "wanted", "reason"),
    [
        ({"windows": ()}, "wait", "drift is unknown"),
        ({"windows": windows("insufficient_data")}, "wait", "drift is unknown"),
        ({"windows": windows("clean", "clean", "clean")}, "wait", "not confirmed"),
        ({"windows": windows("clean", "clean", "drifted")}, "wait", "not confirmed"),
        ({"windows": windows("drifted", "drifted", "clean")}, "wait", "not confirmed"),
        ({"windows": windows("drifted", "drifted", "clean", "clean", "drifted")}, "wait", "not confirmed"),
        ({"champion": False}, "wait", "nothing serves yet"),
        ({"labelled_rows": 199}, "wait", "199 new labelled rows"),
        ({"attempts": [attempt(23)]}, "wait", "cooling down"),
        ({"attempts": [attempt(30), attempt(60), attempt(90)]}, "wait", "within seven days"),
        ({"attempts": [attempt(5, "running")]}, "wait", "under way"),
        ({"attempts": [attempt(99, key="new")]}, "wait", "started before"),
        ({"attempts": [attempt(90, "refused"), attempt(60, "rolled_back")]}, "alert", "a person has to look"),
        ({"windows": windows("drifted", "drifted", quality=("all empty",))}, "alert", "no training mends"),
    ],
)
def test_what_holds_a_retraining_back(changes: dict[str, Any], wanted: str, reason: str) -> None:
    found, reasons = verdict(**changes)
    assert found == wanted
    assert reason in reasons


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": windows("drifted", "clean", "drifted")},
        {"windows": windows("drifted", "drifted")},
        {"attempts": [attempt(25)]},
        {"attempts": [attempt(13, "running"), attempt(25)], "labelled_rows": 200},
        {"attempts": [attempt(40, "refused"), attempt(30, "promoted")]},
        {"attempts": [attempt(hours, "refused", cause="person") for hours in (20, 30, 40, 50)]},
        {"attempts": [attempt(60, "refused"), attempt(50, "refused"), attempt(30, "promoted", cause="person")]},
        {"attempts": [attempt(400, "refused"), attempt(300, "refused"), attempt(200, "promoted")]},
    ],
)
def test_what_does_not(changes: dict[str, Any]) -> None:
    retraining = Retraining(cool_down_hours=12.5)
    assert decide(facts(**changes), MONITORING, retraining).verdict == "retrain"


def test_labels_are_new_since_they_were_last_learned_from() -> None:
    attempts = [attempt(10, cause="person"), attempt(20, cause="git"), attempt(30), attempt(40, cause="schedule")]
    assert learned_until(attempts) == NOW - 30 * HOUR
    assert learned_until([]) == 0


@pytest.mark.parametrize("cause", ["git", "schedule", "person"])
def test_a_request_needs_no_drift_and_writes_down_what_was_seen(cause: str) -> None:
    found, reasons = verdict(cause=cause, windows=windows("clean"), labelled_rows=0, attempts=[attempt(1)])
    assert found == "retrain"
    assert f"asked for by {cause}" in reasons
    assert "0 of the last 1 windows drifted" in reasons


def test_a_schedule_does_not_learn_from_broken_traffic_and_a_person_is_told() -> None:
    broken = windows("drifted", quality=("all empty",))
    assert verdict(cause="schedule", windows=broken)[0] == "alert"
    found, reasons = verdict(cause="person", windows=broken)
    assert found == "retrain"
    assert "all empty" in reasons


def test_an_unknown_cause_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown"):
        verdict(cause="whim")


OUTCOMES = st.sampled_from(["running", "promoted", "refused", "rolled_back", "held", "failed"])
ATTEMPTS = st.lists(st.builds(attempt, st.floats(0, 400), OUTCOMES, st.sampled_from(["old", "new"])), max_size=6)
WINDOWS = st.lists(st.sampled_from(["drifted", "clean"]), max_size=6).map(
    lambda found: windows(*found) if found else ()
)
CAUSES = st.sampled_from(["drift", "git", "schedule", "person"])


@given(found=WINDOWS, attempts=ATTEMPTS, labels=st.integers(0, 400), cause=CAUSES)
def test_no_rule_is_ever_passed_over(
    found: tuple[WindowDrift, ...], attempts: list[Attempt], labels: int, cause: str
) -> None:
    decision = decide(
        facts(windows=found, attempts=attempts, labelled_rows=labels, cause=cause), MONITORING, RETRAINING
    )
    assert decision.reasons
    if cause == "person":
        assert decision.verdict == "retrain"
    if decision.verdict == "retrain" and cause != "person":
        assert all(one.trigger_key != "new" for one in attempts)
        assert not any(one.outcome == "running" and NOW - one.time < 12 * HOUR for one in attempts)
    if decision.verdict == "retrain" and cause == "drift":
        last = [window.verdict for window in found[-3:]]
        assert last[-1] == "drifted"
        assert last.count("drifted") >= 2
        assert labels >= 200
        assert all(NOW - one.time >= DAY for one in attempts)
        assert unhelpful_in_a_row(attempts) < 2


@given(found=WINDOWS, attempts=ATTEMPTS, labels=st.integers(0, 400), more=st.integers(0, 400), cause=CAUSES)
def test_more_labels_never_hold_a_retraining_back(
    found: tuple[WindowDrift, ...], attempts: list[Attempt], labels: int, more: int, cause: str
) -> None:
    one = facts(windows=found, attempts=attempts, labelled_rows=labels, cause=cause)
    other = facts(windows=found, attempts=attempts, labelled_rows=labels + more, cause=cause)
    if decide(one, MONITORING, RETRAINING).verdict == "retrain":
        assert decide(other, MONITORING, RETRAINING).verdict == "retrain"
