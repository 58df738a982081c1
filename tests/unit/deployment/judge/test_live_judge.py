"""The judge: formulas by hand, properties over arbitrary input, and its error rates by simulation."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.live_judge import is_calm, judge_traffic, judge_watch
from tokka.deployment.judge.verdict import METRICS
from tokka.sections_serving import Canary

CANARY = Canary()
SHARE = 0.25
LIMIT = math.log(len(METRICS) / CANARY.alpha)
RANK = {"promote": 0, "hold": 1, "roll_back": 2}
ANY = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 0.25])


def traffic(n: int, rate: float, on_canary: float, seed: int, share: float = SHARE, column: str = "failed") -> Traffic:
    """n requests at one share; an event has probability `rate` on the champion and `on_canary` on the canary."""
    random = np.random.default_rng(seed)
    canary = (random.random(n) < share).astype(float)
    event = (random.random(n) < np.where(canary == 1, on_canary, rate)).astype(float)
    columns = {name: np.zeros(n) for name in ("failed", "slow", "wrong", "replayed", "refused")} | {column: event}
    order = np.arange(n, dtype=float)
    return Traffic(canary=canary, share=np.full(n, share), key=order, told=order, **columns)


def test_long_evidence_does_not_overflow():
    log_e = e_processes.excess_on_canary(np.ones(100_000), np.full(100_000, 0.01))
    assert np.isfinite(log_e).all()
    judgement = judge_traffic(traffic(50_000, 0.0, 1.0, 1), SHARE, CANARY)
    assert judgement.verdict == "roll_back"
    assert json.loads(json.dumps(vars(judgement), allow_nan=False))["values"]["errors"] > 1e200


def test_no_traffic_holds():
    assert judge_traffic(Traffic(), SHARE, CANARY).verdict == "hold"
    assert judge_watch(Traffic(), Traffic(), CANARY).verdict == "hold"


@pytest.mark.parametrize("column", ["failed", "slow", "wrong", "refused"])
def test_an_excess_on_the_canary_rolls_back(column):
    bad = judge_traffic(traffic(400, 0.01, 0.3, 3, column=column), SHARE, CANARY)
    fine = judge_traffic(traffic(400, 0.05, 0.05, 3, column=column), SHARE, CANARY)
    better = judge_traffic(traffic(400, 0.3, 0.01, 3, column=column), SHARE, CANARY)
    assert (bad.verdict, fine.verdict, better.verdict) == ("roll_back", "promote", "promote")
    assert "e-value" in bad.reasons[0]


def test_a_step_needs_its_own_requests_its_share_and_answers_by_the_challenger():
    earlier = traffic(1000, 0.01, 0.01, 4, share=0.05)
    assert "too few requests" in judge_traffic(earlier, SHARE, CANARY).reasons[0]
    stuck = traffic(400, 0.0, 0.0, 4, share=0.6)
    moved = Traffic(**{**vars(stuck), "share": np.full(400, SHARE)})
    assert "split is not as ordered" in judge_traffic(moved, SHARE, CANARY).reasons[0]
    silent = Traffic(**{**vars(stuck), "canary": np.zeros(400), "share": np.full(400, 0.01)})
    assert "too few answers" in judge_traffic(silent, 0.01, CANARY).reasons[0]


@pytest.mark.parametrize(
    ("n", "on_canary", "verdict"), [(100, 0.0, "hold"), (2000, 0.005, "promote"), (2000, 0.04, "hold")]
)
def test_the_last_step_asks_for_proof(n, on_canary, verdict):
    requests = traffic(n, 0.03 if on_canary == 0.04 else on_canary, on_canary, 11, share=0.5)
    assert judge_traffic(requests, 0.5, CANARY).verdict == "promote"
    last = judge_traffic(requests, 0.5, CANARY, last=True)
    assert last.verdict == verdict
    assert (last.values["errors_proof"] >= last.values["errors_proof_limit"]) == (verdict == "promote")


def test_after_a_promotion_a_rate_far_above_the_usual_one_rolls_back():
    before, after = traffic(500, 0.01, 0.01, 7), traffic(300, 0.2, 0.2, 8, share=0.0)
    assert judge_watch(before, after, CANARY).verdict == "roll_back"
    assert judge_watch(before, traffic(300, 0.01, 0.01, 9, share=0.0), CANARY).verdict == "hold"
    noisy = traffic(500, 0.2, 0.2, 7)
    assert judge_watch(noisy, after, CANARY).verdict == "hold", "it always was so"


def with_replayed(live: Traffic, replayed: Traffic) -> Traffic:
    parts = (live, Traffic(**{**vars(replayed), "replayed": np.ones(replayed.size)}))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(live)}
    # Nobody who asks live is one of the replayed.
    key = np.concatenate([live.key, 1e6 + np.arange(replayed.size)])
    return Traffic(**{**columns, "key": key, "told": np.arange(key.size, dtype=float)})


@pytest.mark.parametrize("column", ["failed", "slow"])
def test_replayed_requests_do_not_outvote_live_ones(column):
    """Few users whose requests all fare badly on the challenger are no proof, and no reason to promote either."""
    good = traffic(3000, 0.0, 0.0, 3, share=0.5)
    assert judge_traffic(good, 0.5, CANARY, last=True).verdict == "promote"
    few = traffic(30, 0.0, 1.0, 4, share=0.5, column=column)
    few = Traffic(**{**vars(few), "key": np.arange(30.0) % 3})
    doubtful = judge_traffic(with_replayed(few, good), 0.5, CANARY, last=True)
    assert doubtful.verdict == "hold" and "live requests" in doubtful.reasons[0]
    both = traffic(60, 0.5, 0.5, 6, share=0.5, column=column)
    assert "live requests" not in judge_traffic(with_replayed(both, good), 0.5, CANARY, last=True).reasons[0]


@pytest.mark.parametrize("column", ["failed", "slow"])
def test_one_caller_s_good_requests_do_not_outvote_what_fails_for_the_others(column):
    """It may send as many as fill every step, each as another user: the others' failures hold the rollout."""

    def by(caller, found):
        return Traffic(**{**vars(found), "caller": np.broadcast_to(np.asarray(caller, dtype=float), found.size)})

    good, few = traffic(3000, 0.0, 0.0, 3, share=0.5), traffic(30, 0.0, 1.0, 4, share=0.5, column=column)
    few = Traffic(**{**vars(few), "key": np.arange(30.0) % 3})

    def judged(others, flood):
        both = with_replayed(others, flood)
        return judge_traffic(Traffic(**{**vars(both), "replayed": both.replayed * 0}), 0.5, CANARY, last=True)

    doubtful = judged(by(1 + np.arange(30) % 3, few), by(9, good))
    assert doubtful.verdict == "hold" and "live requests" in doubtful.reasons[0]
    # Where nobody else asks there is nobody to be outvoted, and a calm few change nothing.
    calm = traffic(30, 0.0, 0.0, 4, share=0.5)
    assert judged(by(9, calm), by(9, good)).verdict == judged(by(1, calm), by(9, good)).verdict == "promote"


def test_a_watch_is_not_calm_half_the_way_to_a_rollback():
    before = traffic(500, 0.01, 0.01, 7)
    assert is_calm(judge_watch(before, traffic(300, 0.01, 0.01, 9, share=0.0), CANARY))
    assert is_calm(judge_watch(Traffic(), Traffic(), CANARY))
    some = judge_watch(before, traffic(7, 1.0, 1.0, 8, share=0.0), CANARY)
    assert some.verdict == "hold" and not is_calm(some)


@pytest.mark.parametrize("rate", [0.4, 0.6, 0.9, 1.0])
def test_after_a_promotion_what_was_usual_before_never_rolls_back(rate):
    """Where people report mistakes only, nearly every told label is wrong."""
    back = sum(
        judge_watch(
            traffic(400, rate, rate, seed, column="wrong"),
            traffic(300, rate, rate, 1000 + seed, share=0.0, column="wrong"),
            CANARY,
        ).verdict
        == "roll_back"
        for seed in range(60)
    )
    assert back <= 3


def test_after_a_promotion_half_as_many_right_answers_as_usual_roll_back():
    before = traffic(2000, 0.6, 0.6, 1, column="wrong")
    worse = traffic(2000, 0.95, 0.95, 2, share=0.0, column="wrong")
    assert judge_watch(before, worse, CANARY).verdict == "roll_back"


def users(n: int, count: int, seed: int, share: float = SHARE, broken: float = 0.0, column: str = "failed") -> Traffic:
    """n requests by a few users, each on one side; a part of the users has an event every other time, on both sides."""
    random = np.random.default_rng(seed)
    side, at_fault = random.random(count) < share, random.random(count) < broken
    who = random.integers(0, count, n)
    made = traffic(n, 0.0, 0.0, seed, share)
    event = (at_fault[who] & (random.random(n) < 0.5)).astype(float)
    return Traffic(**{**vars(made), "canary": side[who].astype(float), "key": who.astype(float), column: event})


@pytest.mark.parametrize("column", ["failed", "slow", "wrong", "refused"])
def test_a_few_users_who_always_fare_badly_do_not_condemn_the_side_that_they_are_on(column):
    back, trials = 0, 150
    for seed in range(trials):
        requests = users(800, 40, seed, broken=0.1, column=column)
        back += judge_traffic(requests, SHARE, CANARY).verdict == "roll_back"
    assert back / trials <= CANARY.alpha


def test_without_the_key_the_same_users_condemn_it_far_more_often_than_alpha():
    """What the test above rests on: the requests of one user are no drawings of their own."""
    back = 0
    for seed in range(150):
        requests = users(800, 40, seed, broken=0.1)
        apart = Traffic(**{**vars(requests), "key": np.arange(800.0)})
        back += judge_traffic(apart, SHARE, CANARY).verdict == "roll_back"
    assert back / 150 > 2 * CANARY.alpha


def test_few_users_prove_little_and_their_split_is_not_taken_for_a_wrong_one():
    few = users(5000, 8, 3, share=0.5)
    assert judge_traffic(few, 0.5, CANARY).verdict == "promote"
    last = judge_traffic(few, 0.5, CANARY, last=True)
    assert last.verdict == "hold" and "not yet proven" in last.reasons[0]


def test_feedback_that_comes_late_only_adds_to_what_was_bet_before():
    """Looks while labels arrive in any order see parts of one path: what a later look finds, it ends with."""
    for seed in range(20):
        made = traffic(400, 0.3, 0.3, seed, column="wrong")
        told = np.random.default_rng(seed).permutation(400).astype(float)
        levels = []
        for look in (100, 200, 300, 400):
            known = np.where(told < look, made.wrong, np.nan)
            seen = Traffic(**{**vars(made), "wrong": known, "told": np.where(told < look, told, np.nan)})
            levels.append(judge_traffic(seen, SHARE, CANARY).values["wrong"])
        assert levels == sorted(levels)


def test_what_the_model_server_refuses_is_no_good_answer():
    garbage = traffic(2000, 1.0, 1.0, 5, share=0.5, column="refused")
    assert "too few requests" in judge_traffic(garbage, 0.5, CANARY, last=True).reasons[0]
    assert judge_watch(traffic(500, 0.01, 0.01, 7), garbage, CANARY).verdict == "hold"


def test_after_a_promotion_what_is_refused_does_not_hide_what_fails():
    before, answered = traffic(500, 0.01, 0.01, 7), traffic(300, 0.2, 0.2, 8, share=0.0)
    refused = traffic(3000, 0.0, 0.0, 9, share=0.0)
    refused = Traffic(**{**vars(refused), "refused": np.ones(refused.size), "key": refused.key + 1e6})
    order = np.argsort(np.concatenate([np.arange(300) * 10.0, np.arange(3000.0)]), kind="stable")
    both = {name: np.concatenate([getattr(answered, name), getattr(refused, name)])[order] for name in vars(answered)}
    assert judge_watch(before, Traffic(**both), CANARY).verdict == "roll_back"


@st.composite
def any_traffic(draw):
    n = draw(st.integers(0, 150))
    columns = [draw(arrays(np.float64, n, elements=ANY)) for _ in Traffic.__dataclass_fields__]
    return Traffic(*columns)


@given(evidence=any_traffic(), share=st.sampled_from([0.05, 0.25, 1.0]))
@settings(max_examples=60, deadline=None)
def test_arbitrary_traffic_never_passes_without_evidence(evidence, share):
    judgement = judge_traffic(evidence, share, CANARY)
    json.dumps(vars(judgement), allow_nan=False)
    assert judgement.reasons
    if judgement.verdict == "promote":
        sound = evidence.usable()
        assert (np.abs(sound.share - share) < 1e-6).sum() >= CANARY.step_requests


@given(garbage=st.sampled_from([np.nan, np.inf, -np.inf, 7.0, -3.0]), n=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_garbage_never_promotes(garbage, n):
    column = np.full(n, garbage)
    assert judge_traffic(Traffic(*[column] * 9), SHARE, CANARY).verdict == "hold"
    good = traffic(n, 0.0, 0.0, 1)
    for name in ("canary", "share", "failed", "slow"):
        assert judge_traffic(Traffic(**{**vars(good), name: column}), SHARE, CANARY).verdict == "hold"


@given(seed=st.integers(0, 10_000), rate=st.sampled_from([0.0, 0.02, 0.1]), more=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_more_failures_on_the_canary_never_speak_for_it(seed, rate, more):
    before = traffic(200, rate, rate, seed)
    on_canary = np.flatnonzero((before.canary == 1) & (before.failed == 0))
    flipped = before.failed.copy()
    flipped[np.random.default_rng(seed).permutation(on_canary)[:more]] = 1.0
    old = judge_traffic(before, SHARE, CANARY)
    new = judge_traffic(Traffic(**{**vars(before), "failed": flipped}), SHARE, CANARY)
    assert new.values["errors"] >= old.values["errors"]
    assert RANK[new.verdict] >= RANK[old.verdict]


def test_peeking_at_equal_versions_aborts_less_often_than_alpha():
    aborted = 0
    for seed in range(300):
        ramp = [traffic(600, 0.02, 0.02, 10 * seed + step, share) for step, share in enumerate((0.05, 0.25, 0.5))]
        columns = {name: np.concatenate([getattr(part, name) for part in ramp]) for name in vars(ramp[0])}
        columns |= {"key": np.arange(1800.0), "told": np.arange(1800.0)}
        # The highest level over the whole ramp: whoever looks after every request sees it.
        aborted += judge_traffic(Traffic(**columns), 0.5, CANARY).verdict == "roll_back"
    assert aborted / 300 <= CANARY.alpha


def test_errors_that_rise_from_half_to_three_percent_are_found():
    found = sum(
        judge_traffic(traffic(4000, 0.005, 0.03, seed, 0.25), 0.25, CANARY).verdict == "roll_back"
        for seed in range(100)
    )
    assert found >= 90
