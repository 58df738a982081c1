"""The schedule rises, falls and ends at zero; rates fall with the distance from the head."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokka.model.network import Specialist, load_encoder
from tokka.sections import Finetuning
from tokka.training.setup.optimisation import Schedule, parameter_groups

SHARES = st.floats(0, 1)


@given(total=st.integers(1, 5000), share=SHARES)
def test_rises_then_falls_to_zero(total: int, share: float) -> None:
    schedule = Schedule.linear(total, share)
    factors = [schedule.factor(step) for step in range(1, total + 2)]
    top = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors[:-1])
    assert factors[-1] == 0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@given(total=st.integers(2, 2000), share=SHARES, data=st.data())
def test_shortened_keeps_the_past_and_still_ends_at_zero(total: int, share: float, data: st.DataObject) -> None:
    schedule = Schedule.linear(total, share)
    done = data.draw(st.integers(1, total - 1))
    sooner = data.draw(st.integers(done, total))
    bent = schedule.shortened(done, sooner)
    for step in range(1, done + 1):
        assert bent.factor(step) == pytest.approx(schedule.factor(step))
    assert bent.factor(sooner + 1) == 0
    assert all(0 <= bent.factor(step) <= 1 for step in range(done, sooner + 1))


@pytest.fixture
def model(base: Path) -> Specialist:
    return Specialist(load_encoder(base), outputs=3, pooling="mean")


def test_rates_fall_by_layer_and_only_matrices_decay(model: Specialist) -> None:
    groups = parameter_groups(model, Finetuning(learning_rate=1e-3, layer_decay=0.5))
    rate = {id(parameter): group for group in groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert len(rate) == len(named)
    assert rate[id(named["head.linear.weight"])]["base_rate"] == 1e-3
    last = named["encoder.encoder.layer.1.output.dense.weight"]
    first = named["encoder.encoder.layer.0.output.dense.weight"]
    words = named["encoder.embeddings.word_embeddings.weight"]
    assert [rate[id(p)]["base_rate"] for p in (last, first, words)] == [5e-4, 2.5e-4, 1.25e-4]
    assert rate[id(last)]["weight_decay"] == 0.01
    assert rate[id(words)]["weight_decay"] == 0
    assert all(rate[id(p)]["weight_decay"] == 0 for n, p in named.items() if n.endswith("bias") or "LayerNorm" in n)


def test_pooling_ignores_padding(model: Specialist) -> None:
    model.eval()
    ids = torch.tensor([[2, 70, 71, 3]])
    padded, mask = torch.tensor([[2, 70, 71, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.inference_mode():
        alone, _ = model(ids, torch.ones_like(ids))
        beside, embedding = model(padded, mask)
    assert torch.allclose(alone, beside, atol=1e-5)
    assert float(embedding.norm()) == pytest.approx(1.0, abs=1e-5)


@given(total=st.integers(1, 5000), share=SHARES)
def test_cosine_follows_the_curve(total: int, share: float) -> None:
    schedule = Schedule.of(Finetuning(schedule="cosine", warmup_share=share), total)
    top = schedule.points[1][0]
    assert schedule.total == total
    assert schedule.factor(total + 1) == 0
    for step in {1, total // 3 + 1, total // 2 + 1, total}:
        if step >= top:
            wanted = (1 + math.cos(math.pi * (step - top) / (total + 1 - top))) / 2
            assert schedule.factor(step) == pytest.approx(wanted, abs=4e-4)
        else:
            assert schedule.factor(step) == pytest.approx(step / top)


@given(total=st.integers(2, 2000), share=SHARES, data=st.data())
def test_a_shortened_cosine_keeps_the_past_and_its_shape(total: int, share: float, data: st.DataObject) -> None:
    schedule = Schedule.cosine(total, share)
    done = data.draw(st.integers(1, total - 1))
    sooner = data.draw(st.integers(done, total))
    bent = schedule.shortened(done, sooner)
    assert all(bent.factor(step) == pytest.approx(schedule.factor(step)) for step in range(1, done + 1))
    rest = [bent.factor(step) for step in range(done, sooner + 2)]
    assert rest == sorted(rest, reverse=True)
    assert rest[-1] == 0
    assert all(factor > 0 for factor in rest[:-1])
    steps = [step for step, _ in bent.points]
    assert steps == sorted(steps)
    assert bent.shortened(sooner, sooner).total == sooner


def test_shortening_a_cosine_compresses_it() -> None:
    bent = Schedule.cosine(199, 0.0).shortened(100, 150)
    # What took 100 steps takes 51: step 125 is where step 149 would have been.
    assert bent.factor(125) == pytest.approx(Schedule.cosine(199, 0.0).factor(149), abs=2e-3)
