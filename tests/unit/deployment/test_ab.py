"""A/B tests: what starts, ends and fails safe."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.world import Killed, Model, World
from tokka.deployment import ab
from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.live_judge import judge_ab
from tokka.deployment.judge.phases import Action, Evidence, next_action
from tokka.deployment.reconcile import end_abandoned, rollback
from tokka.deployment.record.record import Superseded
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Observed
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import Params
from tokka.stack import drive

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
RUNNING = State(endpoint="desk", generation=3, champion=ONE, challenger=TWO, phase="ab", share=0.3, updated=9.0)


def traffic(
    n: int, champion: float, challenger: float, seed: int, share: float = 0.3, column: str = "failed"
) -> Traffic:
    random = np.random.default_rng(seed)
    canary = (random.random(n) < share).astype(float)
    event = (random.random(n) < np.where(canary == 1, challenger, champion)).astype(float)
    columns = {name: np.zeros(n) for name in ("failed", "slow", "wrong", "replayed", "refused")} | {column: event}
    order = np.arange(n, dtype=float)
    return Traffic(canary=canary, share=np.full(n, share), key=order, told=order, **columns)


def judge(evidence: Evidence) -> Action:
    return next_action(RUNNING, evidence, Params().canary, 10.0)


def test_failures_end_the_test_and_peeking_at_equal_versions_seldom_does():
    seen = Observed(generation=3, share=0.3, ready=(ONE.digest, TWO.digest))
    ended = judge(Evidence(seen, traffic=traffic(1500, 0.005, 0.05, 1)))
    assert (ended.kind, ended.changes["challenger"], ended.changes["phase"]) == ("roll_back", None, "idle")
    assert "fails more often" in ended.reasons[0]
    # The judge looks at the highest level that was ever reached: this is what peeking after each request sees.
    wrong = sum(
        judge(Evidence(seen, traffic=traffic(800, 0.05, 0.05, seed))).kind == "roll_back" for seed in range(200)
    )
    assert wrong / 200 <= Params().canary.alpha
    assert judge(Evidence(seen, lost_s=31.0)).topic == "lost"


def by_users(made: Traffic, users: int, **columns: np.ndarray) -> Traffic:
    """The same requests, asked by so many users in turn, each of whom stays on one side."""
    who = np.arange(made.canary.size) % users
    side = np.random.default_rng(7).random(users) < 0.5
    return Traffic(**{**vars(made), "key": who.astype(float), "canary": side[who].astype(float), **columns})


def test_one_user_who_always_fails_does_not_end_the_test():
    made = by_users(traffic(600, 1.0, 1.0, 1, 0.5), 3)
    found = judge_ab(Traffic(**{**vars(made), "canary": np.ones(600)}), 0.05)
    assert found.verdict == "hold" and found.values["errors"] < 10, "three users are three drawings"
    assert judge_ab(traffic(600, 0.0, 1.0, 1, 0.5), 0.05).verdict == "roll_back"


@pytest.fixture
def here(tmp_path):
    made = World(tmp_path)
    made.clock.on_sleep = lambda: made.target.apply(made.state)
    return made


def start(here: World, version: str = "2", share: float = 0.3) -> State:
    return ab.start(here.rollout_of(version), share)


def test_a_test_starts_splits_and_ends_with_its_winner(here):
    state = start(here)
    assert (state.phase, state.share, state.challenger.version) == ("ab", 0.3, "2")
    ended = ab.stop("2", here.record, here.params, here.settings)
    assert (ended.champion.version, ended.previous.version, ended.challenger, ended.phase) == ("2", "1", None, "idle")
    assert "version 2 won" in ended.reason
    assert rollback(here.record, state.endpoint, "by hand").champion.version == "1"


def test_the_champion_may_win_and_others_may_not(here):
    start(here)
    with pytest.raises(UsageError, match="not in this test"):
        ab.stop("3", here.record, here.params, here.settings)
    ended = ab.stop("1", here.record, here.params, here.settings)
    assert (ended.champion.version, ended.challenger, ended.previous) == ("1", None, None)
    with pytest.raises(Refused, match="no A/B test runs"):
        ab.stop("1", here.record, here.params, here.settings)


def test_what_cannot_be_compared_is_refused_and_changes_nothing(here):
    before = here.state
    for version, share, words in (("1", 0.3, "champion"), ("2", 0.0, "share"), ("2", 1.0, "share")):
        with pytest.raises(UsageError, match=words):
            start(here, version, share)
    assert here.state == before
    start(here)
    with pytest.raises(Refused, match="on trial now"):
        start(here, "3")


def test_an_unsigned_version_and_one_that_does_not_speak_get_no_traffic(tmp_path):
    unsigned = World(tmp_path / "unsigned", challenger=Model(signed=False))
    with pytest.raises(Refused, match="no signature"):
        start(unsigned)
    assert unsigned.state.challenger is None
    mute = World(tmp_path / "mute", challenger=Model(sane=False))
    mute.clock.on_sleep = lambda: mute.target.apply(mute.state)
    with pytest.raises(Refused, match="does not serve"):
        start(mute)
    assert (mute.state.challenger, mute.state.phase) == (None, "idle")


def test_a_rollout_of_the_same_version_begins_anew_and_does_not_skip_its_shadow(here):
    start(here)
    assert here.rollout("2").verdict == "held"
    ab.stop("1", here.record, here.params, here.settings)
    result = here.rollout("2")
    assert [one["phase"] for one in result.phases if one["action"] == "go_on"][:2] == ["warm_up", "shadow"]


def test_no_rollout_takes_a_running_test_away_and_one_that_nobody_watches_is_ended_by_the_daemon(here):
    state = start(here)
    result = here.rollout("3")
    assert (result.verdict, here.state) == ("held", state)
    assert "tokka ab stop" in result.reasons[0]
    here.clock.set_by = 7200.0
    assert here.rollout("3").verdict == "held", "a clock that was set is no silence"
    assert end_abandoned(here.record, here.state.endpoint, 59.0) is None
    assert end_abandoned(here.record, here.state.endpoint, 61.0).phase == "idle"
    assert here.rollout("3").verdict == "promoted"


def test_the_winner_keeps_its_snapshot_of_feedback(here):
    here.registry.of["2"].tags["tokka.snapshot"] = "/snapshots/abc"
    start(here)
    assert ab.stop("2", here.record, here.params, here.settings).champion.snapshot == "/snapshots/abc"


def test_a_version_that_waits_for_its_review_is_not_compared(here):
    registry = here.params.registry.model_copy(update={"review": "required"})
    params = here.params.model_copy(update={"registry": registry})
    with pytest.raises(Refused, match="its review is waiting"):
        ab.start(here.rollout_of("2", params=params), 0.3)
    assert here.state.challenger is None


def test_a_rollout_takes_over_from_a_test_that_is_still_warming_up(here):
    """`tokka run` for the version that `tokka ab start` warms up: the rollout goes its own way, from the beginning."""
    here.challenger.ready = False
    results = []

    def interrupt() -> None:
        here.target.apply(here.state)
        if here.state.ab_share:
            here.challenger.ready = True
            here.clock.on_sleep = lambda: None
            results.append(here.rollout("2"))

    here.clock.on_sleep = interrupt
    with pytest.raises(Superseded):
        start(here)
    assert results[0].verdict == "promoted"
    assert "shadow" in [one["phase"] for one in results[0].phases]
    assert here.state.ab_share == 0.0


def look(here: World) -> None:
    """The daemon's service, killed after a few looks."""
    until = here.clock.now + 2.0

    def kill() -> None:
        if here.clock.now > until:
            raise Killed

    here.clock.on_sleep = kill
    with contextlib.suppress(Killed):
        drive.go_on(here.record, here.target, here.params, here.settings, None, here.clock, here.target.reader)
    here.clock.on_sleep = lambda: None


def fail(here: World) -> None:
    here.challenger.live_errors = 0.7
    here.target.send([{"text": f"message {number}"} for number in range(150)], replayed=False)


def lose(here: World) -> None:
    here.challenger.ready = False
    here.clock.now += 40


EVENTS = {
    "look": look,
    "fail": fail,
    "lose": lose,
    "requests": lambda here: here.target.send([{"text": f"message {number}"} for number in range(50)], replayed=False),
    "start": lambda here: start(here),
    "one wins": lambda here: ab.stop("1", here.record, here.params, here.settings),
    "two wins": lambda here: ab.stop("2", here.record, here.params, here.settings),
    "by hand": lambda here: rollback(here.record, here.state.endpoint, "by hand"),
    "silence": lambda here: end_abandoned(here.record, here.state.endpoint, 61.0),
    "another": lambda here: here.rollout("3"),
}


@given(events=st.lists(st.sampled_from(sorted(EVENTS)), max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_happens_to_a_test_it_ends_idle_with_one_champion_that_a_person_named(events):
    with tempfile.TemporaryDirectory() as folder:
        here = World(Path(folder), canary={"step_requests": 40, "watch_s": 0.6, "quality_margin": 0.1})
        start(here)
        for name in events:
            before = here.state
            with contextlib.suppress(TokkaError):
                EVENTS[name](here)
            after = here.state
            if after.champion != before.champion:
                assert name in ("two wins", "by hand") or before.phase == "idle", "nothing but a person names a winner"
            if before.phase == "ab" and name == "fail":
                assert after == before, "until somebody looks"
        with contextlib.suppress(TokkaError):
            rollback(here.record, here.state.endpoint, "the end")
        states = here.record.history(here.state.endpoint, 1000)
        assert here.state.phase == "idle" and here.state.challenger is None and here.state.share == 0.0
        assert all(state["champion"] for state in states)
