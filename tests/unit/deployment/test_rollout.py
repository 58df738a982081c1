"""A whole rollout in a made-up world: what it returns, records, and does when it is asked twice."""

import json

import pytest

from tests.fakes.world import ENDPOINT, Model, World, digest_of
from tokka.deployment.reconcile import rollback
from tokka.errors import Refused, TokkaError

SHORT = {"quality_margin": 0.1, "step_requests": 60, "watch_s": 0.6, "maximum_wait_s": 20}


@pytest.fixture
def here(tmp_path):
    return World(tmp_path, canary=SHORT)


def test_a_good_version_is_promoted_step_by_step(here):
    result = here.rollout()
    assert result.verdict == "promoted"
    moves = [(phase["phase"], phase["share"], phase["action"]) for phase in result.phases if phase["action"] != "wait"]
    assert moves == [
        ("warm_up", 0.0, "go_on"), ("shadow", 0.0, "go_on"), ("step", 0.2, "go_on"), ("step", 0.5, "promote"),
        ("watch", 0.0, "finish"),
    ]  # fmt: skip
    assert 0.3 < result.share_seen < 0.7
    state = here.state
    assert (state.champion.version, state.previous.version, state.challenger, state.phase) == ("2", "1", None, "idle")


def test_the_result_is_json_with_e_values_and_says_what_was_replayed(here):
    result = json.loads(json.dumps(here.rollout().as_dict(), allow_nan=False))
    shadow = next(phase for phase in result["phases"] if phase["phase"] == "shadow" and phase["action"] == "go_on")
    assert shadow["values"]["no_worse"] >= shadow["values"]["no_worse_limit"] == 20
    assert shadow["values"]["replayed"] == shadow["values"]["pairs"] == 100
    assert any("60 replayed" in reason for reason in result["reasons"])
    assert result["phases"] == here.record.decisions(ENDPOINT, version="2")[::-1]


def test_live_traffic_is_used_before_any_is_replayed(here):
    def live() -> None:
        rows = [{"text": f"message {1000 + int(here.clock.now * 100) % 100_000 + number}"} for number in range(40)]
        here.target.send(rows, rate=1000, replayed=False)

    here.clock.on_sleep = live
    result = here.rollout()
    assert result.verdict == "promoted"
    assert any("(0 replayed)" in reason for reason in result.reasons)
    shadow = next(phase for phase in result.phases if phase["topic"] == "quality")
    assert shadow["values"]["replayed"] < shadow["values"]["pairs"]


@pytest.mark.parametrize("version, verdict", [("2", "promoted"), ("3", "rolled_back")])
def test_a_verdict_is_returned_when_what_serves_follows_it(here, monkeypatch, version, verdict):
    """A gateway that is a second late: whoever asks after the verdict is answered as it says."""
    here.target.models[digest_of("3")].sane = False
    observe, seen = here.target.observe, []

    def late():
        now = observe()
        seen.append((here.clock.now, now))
        return next(one for time, one in reversed(seen) if time <= here.clock.now - 1 or one is seen[0][1])

    monkeypatch.setattr(here.target, "observe", late)
    assert here.rollout(version).verdict == verdict
    assert late().generation == here.state.generation


def test_a_verdict_is_returned_although_nothing_follows_it(here, monkeypatch, capsys):
    apply = here.target.apply
    monkeypatch.setattr(here.target, "apply", lambda state: apply(state) if state.phase != "idle" else None)
    assert here.rollout().verdict == "promoted"
    assert here.target.observe().generation < here.state.generation
    assert "does not serve what was decided yet" in capsys.readouterr().err


def test_a_promotion_waits_for_proof_by_live_requests(tmp_path):
    here = World(tmp_path, canary={**SHORT, "error_margin": 0.02, "slow_margin": 0.1, "maximum_wait_s": 100})
    result = here.rollout()
    promotion = next(phase for phase in result.phases if phase["action"] == "promote")
    assert promotion["values"]["errors_proof"] >= promotion["values"]["errors_proof_limit"] == 20
    assert promotion["values"]["step_requests"] > 400


def test_the_first_version_needs_no_champion(tmp_path):
    here = World(tmp_path, first=True, canary=SHORT)
    result = here.rollout("1")
    assert result.verdict == "promoted"
    assert here.state.champion.version == "1" and here.state.previous is None
    assert here.registry.alias == {"champion": "1"}


def test_the_champion_is_promoted_already(here):
    before = here.state
    assert here.rollout("1").verdict == "promoted"
    assert here.state == before
    assert here.registry.of["1"].tags["tokka.canary"] == "promoted"


def test_a_version_that_evidence_rolled_back_is_not_tried_again_unless_asked(tmp_path):
    here = World(tmp_path, challenger=Model(accuracy=0.5), canary=SHORT)
    first = here.rollout()
    generation = here.state.generation
    second = here.rollout()
    assert first.verdict == second.verdict == "rolled_back"
    assert second.reasons == first.reasons and second.phases == first.phases
    assert here.state.generation == generation
    here.challenger.accuracy = 0.95
    assert here.rollout(again=True).verdict == "promoted"


def test_a_version_that_was_merely_held_is_tried_again(tmp_path):
    here = World(tmp_path, challenger=Model(ready=False), canary={**SHORT, "warm_up_s": 3})
    assert here.rollout().verdict == "rolled_back"
    here.challenger.ready = True
    assert here.rollout().verdict == "promoted"


def test_a_retired_version_can_come_back(here):
    assert here.rollout("2").verdict == "promoted"
    assert here.rollout("1").verdict == "promoted"
    assert here.state.champion.version == "1" and here.state.previous.version == "2"


def test_rolling_back_by_hand_is_one_change_and_needs_somewhere_to_go(here):
    with pytest.raises(Refused, match="no previous champion"):
        rollback(here.record, ENDPOINT, "why")
    here.rollout()
    generation = here.state.generation
    state = rollback(here.record, ENDPOINT, "complaints about refunds")
    assert (state.champion.version, state.previous, state.generation) == ("1", None, generation + 1)
    assert here.record.decisions(ENDPOINT)[0]["reasons"] == ["complaints about refunds"]


def test_a_version_that_does_not_exist_is_an_error_and_changes_nothing(here):
    before = here.state
    with pytest.raises(TokkaError, match="no version 9"):
        here.rollout("9")
    assert here.state == before


def test_a_snapshot_of_feedback_is_remembered_with_the_version(here):
    here.registry.of["2"].tags["tokka.snapshot"] = "feedback/2026-11-23.parquet"
    here.rollout()
    assert here.state.champion.snapshot == "feedback/2026-11-23.parquet"


def test_progress_is_reported(here, capsys):
    here.rollout()
    said = capsys.readouterr().err
    assert "version 2, step at 20%" in said
    assert "proven not worse" in said


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.9, "promoted"), (0.95, "promoted"), (0.4, "rolled_back")])
def test_values_are_rolled_out_by_their_errors(tmp_path, accuracy, verdict):
    here = World(tmp_path, challenger=Model(accuracy=accuracy), values=True, canary=SHORT)
    assert here.rollout().verdict == verdict
