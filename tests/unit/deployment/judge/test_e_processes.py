"""E-processes: the published formulas, and as quick a proof as was measured for them."""

import math

import numpy as np
import pytest

from tests.unit.deployment.judge.test_live_judge import CANARY, traffic
from tokka.deployment.judge import e_processes


def test_the_excess_process_is_the_published_formula():
    share, x = np.array([0.05, 0.05, 0.25, 0.5]), np.array([1.0, 0.0, 1.0, 1.0])
    expected = 0.0
    for ratio in (1.5, 2, 3, 5, 8, 12):
        p = ratio * share / (ratio * share + 1 - share)
        expected += np.prod((p / share) ** x * ((1 - p) / (1 - share)) ** (1 - x)) / 6
    assert math.exp(e_processes.excess_on_canary(x, share)[-1]) == pytest.approx(expected)


def test_the_bets_are_the_published_formulas():
    d, x, delta = np.array([1.0, -1, 0, -1, 0.5]), np.array([0.0, 1, 0.5]), 0.03
    back = np.mean([np.prod(1 - stake * d) for stake in e_processes.STAKES])
    good = np.mean([np.prod(1 + stake * (d + delta) / (1 + delta)) for stake in e_processes.STAKES])
    apart = np.mean([np.prod(1 + stake * (delta - x)) for stake in e_processes.STAKES])
    assert math.exp(e_processes.against_no_worse(d)[-1]) == pytest.approx(back)
    assert math.exp(e_processes.against_worse_by(d, delta)[-1]) == pytest.approx(good)
    assert math.exp(e_processes.against_disagreement(x, delta)[-1]) == pytest.approx(apart)


def test_equal_models_are_certified_without_labels_as_fast_as_the_notes_measured():
    random = np.random.default_rng(0)
    needed = []
    for _ in range(200):
        log_e = e_processes.against_disagreement((random.random(3000) < 0.005).astype(float), 0.02)
        needed.append(int(np.argmax(log_e >= math.log(20))) + 1)
    assert 450 <= np.median(needed) <= 530  # the notes: 489


def test_the_proof_is_the_formula_it_says_it_is():
    w, x, y = np.array([0.05, 0.5, 0.25, 0.25]), np.array([1.0, 0, 1, 0]), np.array([1.0, 1, 0, 0])
    z = y * x / w - y * (1 - x) / (1 - w)
    expected = np.mean([np.prod(1 + stake * w * (0.02 - z)) for stake in e_processes.STAKES])
    assert math.exp(e_processes.against_excess_of(0.02, y, x, w)[-1]) == pytest.approx(expected)


def test_an_excess_of_the_margin_is_promoted_on_less_often_than_alpha():
    promoted = 0
    for seed in range(200):
        requests = traffic(3000, 0.02, 0.04, seed, share=0.5)
        log_e = e_processes.against_excess_of(0.02, requests.failed, requests.canary, requests.share)
        promoted += e_processes.highest(log_e) >= math.log(1 / CANARY.alpha)
    assert promoted / 200 <= CANARY.alpha
