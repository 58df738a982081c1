"""The judge of the shadow: what it proves, properties over arbitrary input, and its error rates by simulation."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokka.deployment.judge import e_processes
from tokka.deployment.judge.evidence import Pairs
from tokka.deployment.judge.shadow_judge import judge_pairs
from tokka.deployment.judge.verdict import METRICS
from tokka.sections_serving import Canary

CANARY = Canary()
SHARE = 0.25
LIMIT = math.log(len(METRICS) / CANARY.alpha)
RANK = {"promote": 0, "hold": 1, "roll_back": 2}
ANY = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 0.25])


def pairs(n: int, challenger_only: float, champion_only: float, seed: int, labelled: float = 1.0) -> Pairs:
    """n pairs; with these probabilities only the challenger, or only the champion, is right."""
    random = np.random.default_rng(seed)
    draw = random.random(n)
    difference = np.where(draw < challenger_only, 1.0, np.where(draw < challenger_only + champion_only, -1.0, 0.0))
    known = (random.random(n) < labelled) | (difference == 0)
    return Pairs(np.where(known, difference, np.nan), np.abs(difference), speed=np.zeros(n))


@pytest.mark.parametrize("nothing", [Pairs(), Pairs(exhausted=True)])
def test_no_pairs_hold(nothing):
    assert judge_pairs(nothing, CANARY).verdict == "hold"


def test_quality_is_proven_either_way_or_undecided():
    assert judge_pairs(pairs(400, 0.01, 0.08, 5), CANARY).verdict == "roll_back"
    assert judge_pairs(pairs(800, 0.04, 0.01, 5), CANARY).verdict == "promote"
    assert judge_pairs(pairs(60, 0.05, 0.05, 5), CANARY).verdict == "hold"


def test_a_challenger_that_is_slower_in_the_shadow_is_rolled_back():
    def verdict(speed: list[float]) -> str:
        zeros = np.zeros(len(speed))
        return judge_pairs(Pairs(difference=zeros, disagreement=zeros, speed=np.array(speed)), CANARY).verdict

    assert verdict([-1.0] * 20 + [0.0] * 480) == "roll_back"
    assert verdict([1.0] * 20 + [0.0] * 480) == "promote"
    assert verdict([-1.0, 1.0] * 20 + [0.0] * 460) == "hold", "that it is not slower is not proven yet"
    assert verdict([math.nan, 9.0] * 20 + [0.0] * 460) == "promote", "what is not known speaks for nobody"


def test_that_it_is_no_slower_must_be_proven_unless_there_is_nothing_left_to_ask():
    slow = np.where(np.arange(900) % 40 == 0, -1.0, 0.0) + np.where(np.arange(900) % 90 == 1, 1.0, 0.0)
    alike = pairs(900, 0.04, 0.0, 5)
    judgement = judge_pairs(replace(alike, speed=slow), CANARY)
    assert judgement.verdict == "hold" and "slow answers are less than 2.0% more frequent" in judgement.reasons[0]
    assert judge_pairs(replace(alike, speed=slow, exhausted=True), CANARY).verdict == "promote"
    assert judge_pairs(replace(alike, speed=slow), CANARY.model_copy(update={"slow_margin": 1.0})).verdict == "promote"
    promoted = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        made = pairs(900, 0.04, 0.0, seed)
        promoted += (
            judge_pairs(replace(made, speed=-(random.random(900) < 0.02).astype(float)), CANARY).verdict == "promote"
        )
    assert promoted / 200 <= CANARY.alpha


def test_disagreements_without_labels_count_as_the_worst_for_promoting_and_as_nothing_for_rolling_back():
    blind = pairs(600, 0.1, 0.0, 6, labelled=0.0)
    assert judge_pairs(blind, CANARY).verdict == "hold"
    assert judge_pairs(pairs(600, 0.1, 0.0, 6), CANARY).verdict == "promote"
    assert judge_pairs(pairs(600, 0.0, 0.1, 6, labelled=0.0), CANARY).verdict == "hold"


def mixed(live: Pairs, replayed: Pairs) -> Pairs:
    names, sizes = ("difference", "disagreement"), [live.difference.size, replayed.difference.size]
    columns = {name: np.concatenate([getattr(live, name), getattr(replayed, name)]) for name in names}
    return Pairs(**columns, speed=np.zeros(sum(sizes)), replayed=np.repeat([0.0, 1.0], sizes))


def test_replayed_rows_do_not_outvote_live_ones():
    few = Pairs(difference=np.array([-1.0, -1, -1, -1, 1, -1]), disagreement=np.ones(6))
    judgement = judge_pairs(mixed(few, pairs(600, 0.04, 0.01, 5)), CANARY)
    assert judgement.verdict == "hold" and "live inputs speak against it (-4 in 6)" in judgement.reasons[0]
    assert judge_pairs(mixed(pairs(6, 0.0, 0.0, 1), pairs(600, 0.04, 0.01, 5)), CANARY).verdict == "promote"
    many = pairs(CANARY.shadow_rows, 0.05, 0.05, 2)
    undecided = judge_pairs(mixed(many, pairs(5000, 0.04, 0.0, 5)), CANARY)
    assert undecided.verdict == "hold", "enough live inputs must prove it by themselves"
    assert judge_pairs(mixed(pairs(900, 0.04, 0.01, 5), pairs(50, 0.04, 0.01, 6)), CANARY).verdict == "promote"


def test_a_loss_on_live_inputs_alone_rolls_back_whatever_replayed_rows_say():
    lost = judge_pairs(mixed(pairs(400, 0.0, 0.1, 3), pairs(1000, 0.1, 0.0, 4)), CANARY)
    assert lost.verdict == "roll_back"
    # Not even when the replayed ones came first.
    later = mixed(pairs(400, 0.0, 0.1, 3), pairs(4000, 0.1, 0.0, 4))
    later = Pairs(**{name: column[::-1] for name, column in vars(later).items() if np.ndim(column)})
    assert judge_pairs(later, CANARY).verdict == "roll_back"


def test_mixed_pairs_at_the_margin_are_promoted_and_equal_ones_rolled_back_less_often_than_alpha():
    promoted = rolled_back = 0
    for seed in range(200):
        bad = mixed(pairs(400, 0.03, 0.06, seed), pairs(800, 0.03, 0.06, 1000 + seed))
        same = mixed(pairs(400, 0.05, 0.05, seed), pairs(800, 0.05, 0.05, 1000 + seed))
        promoted += judge_pairs(bad, CANARY).verdict == "promote"
        rolled_back += judge_pairs(same, CANARY).verdict == "roll_back"
    assert promoted / 200 <= CANARY.alpha and rolled_back / 200 <= CANARY.alpha


@given(
    difference=arrays(np.float64, st.integers(0, 150), elements=ANY),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_pairs_never_pass_without_evidence(difference, data):
    disagreement = data.draw(arrays(np.float64, difference.size, elements=ANY))
    judgement = judge_pairs(Pairs(difference=difference, disagreement=disagreement), CANARY)
    json.dumps(vars(judgement), allow_nan=False)
    if judgement.verdict == "promote":
        sound = (disagreement >= 0) & (disagreement <= 1)
        # The most that one pair can win with the highest stake, and what there is to win.
        assert sound.sum() * math.log1p(0.8) >= math.log(20)


@given(garbage=st.sampled_from([np.nan, np.inf, -np.inf, 7.0, -3.0]), n=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_garbage_pairs_never_promote(garbage, n):
    column = np.full(n, garbage)
    assert judge_pairs(Pairs(difference=column, disagreement=column), CANARY).verdict != "promote"


@given(seed=st.integers(0, 10_000), more=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_challenger_that_is_right_less_often_is_never_judged_better(seed, more):
    before = pairs(300, 0.05, 0.03, seed)
    worse = before.difference.copy()
    worse[np.random.default_rng(seed).permutation(300)[:more]] = -1.0
    after = Pairs(difference=worse, disagreement=np.where(worse != 0, 1.0, before.disagreement))
    old, new = judge_pairs(before, CANARY), judge_pairs(after, CANARY)
    assert new.values["no_worse"] <= old.values["no_worse"]
    assert new.values["quality"] >= old.values["quality"]


def test_peeking_at_a_challenger_at_the_margin_promotes_less_often_than_alpha():
    promoted = sum(judge_pairs(pairs(1500, 0.03, 0.06, seed), CANARY).verdict == "promote" for seed in range(300))
    assert promoted / 300 <= CANARY.alpha


def test_a_loss_of_five_points_is_found_with_few_labels():
    labels = []
    for seed in range(100):
        difference = pairs(3000, 0.02, 0.07, seed).difference
        log_e = e_processes.against_no_worse(difference)
        stop = int(np.argmax(log_e >= LIMIT))
        labels.append(int((difference[: stop + 1] != 0).sum()) if log_e.max() >= LIMIT else 10_000)
    assert np.median(labels) <= 50
