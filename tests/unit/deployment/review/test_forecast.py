"""The forecast of a rollout: its hours are those that the judge itself needs, and what it cannot see is said."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.deployment.judge.evidence import Traffic
from tokka.deployment.judge.live_judge import judge_traffic
from tokka.deployment.review.forecast import (
    LOSSES,
    Today,
    forecast,
    read_today,
    requests_to_prove,
    requests_to_tell,
)
from tokka.sections_serving import Canary

CANARY = Canary()
RATES = {"wrong": 0.08, "errors": 0.002, "slow": 0.01}
BUSY = Today(hours=24, requests=240_000, users=240_000, rates=RATES, known={"wrong": 0.1, "errors": 1.0, "slow": 1.0})


def traffic(requests, share, failing, seed):
    """Requests of one user each, at one share; `failing`: the rate of failures on champion and challenger."""
    draw = np.random.default_rng(seed)
    canary = (draw.random(requests) < share).astype(float)
    failed = (draw.random(requests) < np.where(canary == 1, failing[1], failing[0])).astype(float)
    none = np.zeros(requests)
    unknown, keys = np.full(requests, np.nan), np.arange(requests, dtype=float)
    return Traffic(canary=canary, share=np.full(requests, share), failed=failed, slow=none, wrong=unknown,
                   replayed=none, refused=none, key=keys, told=unknown)  # fmt: skip


def first(holds, most):
    """The least number of requests at which something holds that holds ever after."""
    low, high = 0, most
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_loss_is_told_by_the_judge_when_the_forecast_says(share, loss):
    expected = requests_to_tell(0.02, loss, share, CANARY)
    most, seen = int(8 * expected), []
    for seed in range(15):
        every = traffic(most, share, (0.02, 0.02 + loss), seed)

        def is_told(count, every=every):
            return judge_traffic(every.where(np.arange(count)), share, CANARY).verdict == "roll_back"

        seen.append(first(is_told, most))
    assert 0.6 < np.median(seen) / expected < 1.6, (expected, sorted(seen))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_sound_challenger_is_proven_when_the_forecast_says(share):
    canary = Canary(slow_margin=1.0)
    expected = requests_to_prove(0.002, canary.error_margin, share, canary)
    most, seen = int(6 * expected), []
    for seed in range(15):
        every = traffic(most, share, (0.002, 0.002), seed)

        def is_proven(count, every=every):
            judged = judge_traffic(every.where(np.arange(count)), share, canary, last=True)
            return judged.verdict == "promote"

        seen.append(first(is_proven, most))
    assert 0.6 < np.median(seen) / expected < 1.6, (expected, sorted(seen))


def test_a_busy_endpoint_knows_its_hours():
    found = forecast(BUSY, CANARY)
    assert found.shadow_h == pytest.approx(0.03)
    assert [step.share for step in found.steps] == [0.05, 0.25, 0.5]
    assert all(step.lasts_h is not None and step.lasts_h < 1 for step in found.steps)
    needs = found.steps[-1].needs_h
    assert needs["errors"]["1"] > needs["errors"]["2"] > needs["errors"]["5"] > 0
    assert needs["wrong"]["1"] is None, "nine wrong labels in a hundred instead of eight are told by no traffic"
    assert needs["wrong"]["5"] > 0
    assert any("wrong labels more frequent by 1, 2, 5 points" in line for line in found.unseen)


def test_what_cannot_be_seen_is_said():
    (nothing,) = forecast(Today(24, 0, 0, RATES, dict.fromkeys(RATES, 0.0)), CANARY).unseen
    assert nothing.startswith("nothing at all")
    dumb = forecast(replace(BUSY, known=BUSY.known | {"wrong": 0.0}), CANARY)
    assert dumb.unseen[0].startswith("wrong answers: no request brought its true label back")
    assert set(dumb.steps[0].needs_h["wrong"].values()) == {None}
    quiet = forecast(replace(BUSY, requests=50, users=20), CANARY)
    assert any("replayed" in line for line in quiet.unseen)


rates = st.floats(0, 0.5)


@given(rates, rates, rates, st.integers(0, 10**7), st.floats(0, 1), st.floats(0.1, 48))
@settings(max_examples=200, deadline=None)
def test_more_traffic_and_larger_losses_never_take_longer(wrong, errors, slow, requests, known, hours):
    today = Today(hours, requests, requests, {"wrong": wrong, "errors": errors, "slow": slow},
                  {"wrong": known, "errors": 1.0, "slow": 1.0})  # fmt: skip
    one, two = forecast(today, CANARY), forecast(replace(today, requests=2 * requests, users=2 * requests), CANARY)
    for step, busier in zip(one.steps, two.steps, strict=True):
        for name, needs in step.needs_h.items():
            told = [math.inf if hour is None else hour for hour in needs.values()]
            assert all(left >= right * 0.999 for left, right in pairwise(told))
            assert all(
                (busier.needs_h[name][points] or math.inf) <= (hour or math.inf) for points, hour in needs.items()
            )


def test_todays_traffic_is_read_from_the_log():
    found = read_today(traffic(1000, 0.0, (0.1, 0.1), 1), 2.0)
    assert (found.requests, found.users, found.known["wrong"]) == (1000, 1000, 0.0)
    assert found.rates["errors"] == pytest.approx(0.1, abs=0.03)
