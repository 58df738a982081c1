"""Challengers that must not pass: the champion serves on, and the record says why."""

import pytest

from tests.fakes.world import ENDPOINT, Model, World

SHORT = {"quality_margin": 0.1, "step_requests": 60, "watch_s": 0.6, "warm_up_s": 5, "maximum_wait_s": 20, "lost_s": 5}
# What is wrong with the challenger, the phase that finds it, and a word of the reason.
BAD = {
    "fails in the shadow": (Model(errors=0.3), ("warm_up", "shadow"), ""),
    "fails under live traffic": (Model(live_errors=0.4), ("step",), "failures"),
    "is slow": (Model(slow=0.5), ("step",), "slow"),
    "gives wrong labels": (Model(accuracy=0.6), ("shadow",), "worse"),
    "gives wrong labels when it is live": (Model(live_accuracy=0.2), ("step",), "wrong labels"),
    "is never ready": (Model(ready=False), ("warm_up",), "not ready"),
    "dies in the second step": (Model(dies_at=0.5), ("step",), ""),
    "dies as soon as it gets traffic": (Model(dies_at=0.01), ("step",), ""),
    "says nothing": (Model(sane=False), ("warm_up",), "without content"),
    "fails always": (Model(errors=1.0), ("warm_up",), "smoke"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_challenger_is_rolled_back(tmp_path, name):
    model, phases, word = BAD[name]
    here = World(tmp_path, challenger=model, canary=SHORT)
    champion = here.state.champion
    result = here.rollout()
    last = here.record.decisions(ENDPOINT, version="2")[0]
    assert result.verdict == "rolled_back"
    assert last["action"] == "roll_back" and last["phase"] in phases
    assert word in " ".join(result.reasons)
    assert here.state.champion == champion and here.state.challenger is None
    assert here.record.history(ENDPOINT, 1)[0]["reason"] == "; ".join(result.reasons)
    assert here.registry.alias == {"champion": "1"}
    assert here.registry.of["2"].tags["tokka.canary"] == "rolled_back"


@pytest.mark.parametrize("fault", ["signature", "refused", "not admitted"])
def test_what_is_not_signed_or_not_admitted_changes_nothing(tmp_path, fault):
    here = World(tmp_path, challenger=Model(signed=fault != "signature"), canary=SHORT)
    tags = here.registry.of["2"].tags
    tags |= {"refused": {"tokka.review": "refused"}, "not admitted": {"tokka.gate": "refuse"}}.get(fault, {})
    before = here.state
    result = here.rollout()
    assert result.verdict == "rolled_back" and result.reasons[0].startswith("refused before anything")
    assert here.state == before
    assert here.record.decisions(ENDPOINT, version="2")[0]["phase"] == "verify"


def test_what_waits_for_its_review_is_held_and_stays_the_challenger(tmp_path):
    here = World(tmp_path, canary=SHORT)
    params = here.params.model_copy(update={"registry": here.params.registry.model_copy(update={"review": "required"})})
    before = here.state
    assert here.rollout(params=params).verdict == "held"
    assert here.state == before
    assert here.registry.alias == {"champion": "1", "challenger": "2"}
    here.registry.of["2"].tags |= {"tokka.review": "approved", "tokka.reviewer": "ana@example.org"}
    assert here.rollout(params=params).verdict == "promoted"


def test_quality_that_stays_undecided_is_refused(tmp_path):
    here = World(tmp_path, canary={**SHORT, "quality_margin": 0.01}, rows=60)
    result = here.rollout()
    assert result.verdict == "rolled_back"
    assert "no further input" in result.reasons[-1]


def test_no_traffic_and_no_replay_is_no_pass(tmp_path):
    here = World(tmp_path, canary={**SHORT, "replay": False})
    assert "no paired input" in " ".join(here.rollout().reasons)
    here = World(tmp_path / "two", canary=SHORT)
    result = here.rollout(traffic=None)
    assert result.verdict == "rolled_back"
    assert "held for more than 20 s in phase step" in result.reasons[0]


def test_a_gateway_that_does_not_follow_is_no_pass(tmp_path):
    here = World(tmp_path, canary=SHORT)

    def freeze() -> None:
        here.target.frozen = here.state.phase == "shadow"
        here.clock.on_sleep = lambda: None if here.target.frozen else freeze()

    here.clock.on_sleep = freeze
    result = here.rollout()
    assert result.verdict == "rolled_back"
    assert "does not split" in " ".join(result.reasons)


def test_a_stack_that_falls_silent_is_waited_for(tmp_path):
    here = World(tmp_path, canary=SHORT)
    seen = []

    def stumble() -> None:
        seen.append(here.clock.now)
        here.target.down = here.state.phase == "step" and len(seen) < 20

    here.clock.on_sleep = stumble
    assert here.rollout().verdict == "promoted"


def test_bad_news_after_the_promotion_brings_the_previous_champion_back(tmp_path):
    here = World(tmp_path, canary={**SHORT, "watch_s": 30})

    def traffic() -> None:
        if here.state.phase == "watch":
            here.clock.on_sleep = lambda: None
            here.challenger.live_errors = 0.5
            here.target.send([{"text": f"message {number}", "target": None} for number in range(60)], replayed=False)

    here.clock.on_sleep = traffic
    result = here.rollout()
    assert result.verdict == "rolled_back"
    assert "failures" in result.reasons[0]
    assert here.state.champion.version == "1" and here.state.previous is None
    assert here.registry.alias == {"champion": "1"}


def test_a_promoted_version_that_loses_its_workers_is_taken_back(tmp_path):
    here = World(tmp_path, canary={**SHORT, "watch_s": 60})

    def die() -> None:
        here.challenger.ready = here.state.phase != "watch"

    here.clock.on_sleep = die
    assert here.rollout().verdict == "rolled_back"
    assert here.state.champion.version == "1"


def test_a_silent_registry_does_not_undo_a_verdict(tmp_path):
    here = World(tmp_path, canary=SHORT)
    here.registry.down = True
    assert here.rollout().verdict == "promoted"
    here.registry.down = False
    assert here.rollout().verdict == "promoted"
    assert here.registry.alias == {"champion": "2", "previous": "1"}
