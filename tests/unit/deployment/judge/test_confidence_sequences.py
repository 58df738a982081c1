"""Intervals of an A/B test: they hold at all times together, and count users, not requests."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.deployment.test_ab import traffic
from tokka.deployment.judge import confidence_sequences
from tokka.deployment.judge.evidence import Traffic


def test_the_interval_of_a_few_users_is_one_of_users_and_not_of_requests():
    """A tenth of the users always fails, on either side: the intervals must not say which side is worse."""
    missed = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        side, at_fault, who = random.random(30) < 0.5, random.random(30) < 0.2, random.integers(0, 30, 1500)
        made = traffic(1500, 0.0, 0.0, seed, 0.5)
        columns = {"canary": side[who].astype(float), "failed": at_fault[who].astype(float), "key": who.astype(float)}
        found = confidence_sequences.measure(Traffic(**{**vars(made), **columns}), 0.05)["errors"]
        missed += found.verdict != "undecided"
        assert found.requests == 30
    assert missed / 60 <= 0.05


@pytest.mark.parametrize(("champion", "challenger", "share"), [(0.3, 0.3, 0.3), (0.1, 0.25, 0.5), (0.02, 0.02, 0.1)])
def test_the_interval_holds_the_truth_at_all_times_together(champion, challenger, share):
    """Each bound is the outermost over all looks so far, so the last one says whether any look was ever wrong."""
    trials, missed = 150, 0
    for seed in range(trials):
        found = confidence_sequences.measure(traffic(1500, champion, challenger, seed, share), alpha=0.3)["errors"]
        missed += not found.low <= challenger - champion <= found.high
    # alpha is split over three metrics; three standard deviations of 150 draws.
    assert missed / trials <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / trials)


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.05, 0.3, 0.7]), rates=st.tuples(*[st.floats(0, 1)] * 2))
@settings(max_examples=30, deadline=None)
def test_more_requests_never_widen_an_interval_and_it_stays_in_its_range(seed, share, rates):
    every = traffic(400, *rates, seed, share)
    before = confidence_sequences.measure(every.where(np.arange(400) < 150), 0.05)["errors"]
    after = confidence_sequences.measure(every, 0.05)["errors"]
    step = 2.0 / confidence_sequences.STEPS
    assert -1 <= before.low <= after.low + step and after.high <= before.high + step <= 1 + step


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_two_sides_are_mirror_images(seed, data):
    one = traffic(300, data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1)), seed, 0.4)
    other = Traffic(**{**vars(one), "canary": 1 - one.canary, "share": 1 - one.share})
    found, mirrored = (confidence_sequences.measure(each, 0.05)["errors"] for each in (one, other))
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-3)


@pytest.mark.parametrize("column", ["failed", "slow", "wrong"])
def test_a_real_difference_is_found_on_its_own_metric(column):
    found = confidence_sequences.measure(traffic(4000, 0.05, 0.2, 1, 0.3, column), 0.05)
    name = {"failed": "errors"}.get(column, column)
    assert found[name].verdict == "worse"
    assert {one.verdict for other, one in found.items() if other != name} == {"undecided"}
    better = confidence_sequences.measure(traffic(4000, 0.2, 0.05, 1, 0.3, column), 0.05)
    assert better[name].verdict == "better"


def test_nothing_seen_is_nothing_known():
    found = confidence_sequences.measure(Traffic(), 0.05)["errors"]
    assert (found.low, found.high, found.difference, found.verdict) == (-1.0, 1.0, None, "undecided")
    blind = traffic(500, 0.0, 0.0, 1)
    unlabelled = confidence_sequences.measure(Traffic(**{**vars(blind), "wrong": np.full(500, np.nan)}), 0.05)
    assert (unlabelled["wrong"].low, unlabelled["wrong"].requests) == (-1.0, 0)
    assert unlabelled["errors"].high < 0.1


def test_what_the_model_server_refuses_is_in_no_interval():
    made, refused = traffic(600, 0.2, 0.2, 1), (np.arange(600) % 2).astype(float)
    found = confidence_sequences.measure(Traffic(**{**vars(made), "refused": refused}), 0.05)
    assert found["errors"].requests == 300
    alone = made.where(refused == 0)
    assert found == confidence_sequences.measure(alone, 0.05)


def test_labels_count_in_the_order_in_which_they_came():
    made = traffic(600, 0.1, 0.3, 1, column="wrong")
    order = np.random.default_rng(3).permutation(600)
    late = Traffic(**{**vars(made), "told": order.astype(float)})
    as_they_came = Traffic(**{name: column[np.argsort(order)] for name, column in vars(late).items()})
    assert (
        confidence_sequences.measure(late, 0.05)["wrong"] == confidence_sequences.measure(as_they_came, 0.05)["wrong"]
    )
    assert confidence_sequences.measure(late, 0.05)["wrong"] != confidence_sequences.measure(made, 0.05)["wrong"]
