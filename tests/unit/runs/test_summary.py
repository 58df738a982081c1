import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import Refused, TokkaError
from tokka.runs import summary

NAMES = st.sampled_from(["preflight", "finetune", "gate", "register"])
EVENTS = st.lists(
    st.builds(
        lambda step, kind, seconds: {"step": step, "event": kind, "seconds": seconds, "facts": {}},
        NAMES,
        st.sampled_from(["started", "progress", "done", "failed", "result"]),
        st.floats(0, 1e6),
    )
)


def step(name, **result):
    return [
        {"step": name, "event": "started"},
        {"step": name, "event": "result", "facts": result},
        {"step": name, "event": "done", "seconds": 1.0},
    ]


@given(EVENTS)
def test_a_step_stands_in_the_table_once_with_its_last_state(events):
    found = summary.summarise(events)["steps"]
    told = [event for event in events if event["event"] in {"started", "done", "failed"}]
    assert len({row["name"] for row in found}) == len(found)
    for row in found:
        assert row["status"] == [event["event"] for event in told if event["step"] == row["name"]][-1]


@pytest.mark.parametrize(
    ("decision", "follower"),
    [
        (step("detect_drift", verdict="retrain"), "preflight"),
        (step("gate", verdict="pass"), "register"),
        (step("review", verdict="approved"), "canary"),
    ],
)
def test_a_branch_that_was_skipped_is_an_error(decision, follower):
    with pytest.raises(TokkaError, match=f"{follower} did not run"):
        summary.check_complete(summary.summarise(decision))
    summary.check_complete(summary.summarise([*decision, *step(follower)]))


def test_a_refusal_needs_no_follower():
    summary.check_complete(summary.summarise(step("gate", verdict="refuse")))
    summary.check_complete(summary.summarise(step("detect_drift", verdict="wait")))


def test_a_failure_is_told_in_the_words_of_its_step():
    failed = {"step": "validate_data", "event": "failed", "error": "no", "hint": "do this", "exit_code": 3}
    error = summary.failure([{"step": "preflight", "event": "done"}, failed])
    assert isinstance(error, Refused)
    assert (error.message, error.hint) == ("validate_data: no", "do this")
    assert summary.failure(step("gate", verdict="pass")) is None


def test_the_final_object_has_the_keys_that_scripts_read():
    final = summary.final(summary.summarise([]), key="k", mlflow="m", endpoint="e")
    assert {"key", "cached", "version", "data_digest", "model_digest", "steps", "metrics", "gate", "canary"} <= set(
        final
    )
    assert {"endpoint", "report", "mlflow"} <= set(final)
