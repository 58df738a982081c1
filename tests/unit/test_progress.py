"""Where events go: to a file, to a person, or into the log of a pod, which is read back."""

import pytest

from tokka import progress


@pytest.fixture
def pod(monkeypatch):
    monkeypatch.delenv("TOKKA_EVENTS", raising=False)
    monkeypatch.setenv(progress.IN_POD, "10.96.0.1")


def test_a_pod_s_log_holds_what_a_step_found_and_how_it_ended(pod, capsys):
    def crash():
        with progress.step("gate"):
            progress.report("gate", "looking")
            progress.result("gate", verdict="pass", reasons=["é"])
            raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        crash()
    events, shown = progress.read_log("2026 stderr F " + capsys.readouterr().err + "Traceback\n")
    assert [event["event"] for event in events] == ["started", "result", "failed"]
    assert events[1]["facts"] == {"verdict": "pass", "reasons": ["é"]}
    assert shown.splitlines() == ["[gate] started", "[gate] looking", "[gate] result", "[gate] no disk", "Traceback"]


def test_a_line_that_was_cut_short_is_a_line(pod):
    events, shown = progress.read_log(f'{progress.MARK}{{"step": "gate", "ev\n{progress.MARK}[1]\n')
    assert events == []
    assert len(shown.splitlines()) == 2


def test_a_person_gets_lines(monkeypatch, capsys):
    monkeypatch.delenv("TOKKA_EVENTS", raising=False)
    monkeypatch.delenv(progress.IN_POD, raising=False)
    progress.result("gate", verdict="pass")
    assert capsys.readouterr().err == "[gate] result\n"
