"""The linear head on the un-tuned encoder, and the estimate of energy."""

import numpy as np
import pytest

from tokka.data.preparation.prepared import load
from tokka.evaluation.metrics import energy
from tokka.evaluation.metrics.energy import estimate
from tokka.evaluation.metrics.test_set import sample_rows
from tokka.evaluation.models.linear_probe import LinearModel
from tokka.evaluation.models.zero_shot import FrozenEncoder


@pytest.fixture(scope="module")
def encoder(base):
    return FrozenEncoder(base, 48)


def columns(split):
    return split.column("text").to_pylist(), split.column("target").to_pylist()


def test_the_head_learns_and_gives_probabilities_in_the_order_of_the_labels(encoder, prepared):
    data = load(prepared)
    model = LinearModel(encoder, data.labels)
    model.fit(columns(data.train)[0], None, columns(data.train)[1])
    texts, truths = columns(data.test)
    scores = model.predict(texts)
    assert scores.shape == (len(texts), 3)
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(texts)))
    assert (
        np.mean([data.labels[place] == truth for place, truth in zip(scores.argmax(axis=1), truths, strict=True)]) > 0.9
    )


def test_a_class_without_a_row_is_never_answered(encoder, prepared):
    texts, targets = columns(load(prepared).train)
    model = LinearModel(encoder, ["never", *sorted(set(targets))])
    model.fit(texts, None, targets)
    assert (model.predict(texts[:9])[:, 0] == 0).all()


def test_values_are_fitted_by_ridge(encoder, prepared_regression):
    data = load(prepared_regression)
    model = LinearModel(encoder, [])
    model.fit(columns(data.train)[0], None, columns(data.train)[1])
    texts, truths = columns(data.test)
    values = model.predict(texts)
    assert values.shape == (len(texts), 1)
    assert np.abs(values[:, 0] - truths).mean() < 0.7 * np.abs(np.mean(truths) - truths).mean()


def test_too_many_rows_are_sampled_by_seed_and_sorted():
    assert sample_rows(5, 5, 1).tolist() == [0, 1, 2, 3, 4]
    assert len(set(sample_rows(100, 5, 1))) == 5
    assert (np.diff(sample_rows(100, 5, 1)) > 0).all()
    assert (sample_rows(100, 5, 1) == sample_rows(100, 5, 1)).all()


def test_energy_is_estimated_for_the_country_and_nothing_is_printed(capfd):
    found = estimate(lambda number: sum(range(20_000)), "DEU")
    assert found.reason == ""
    assert found.wh > 0
    # Germany's mix has stood between 200 and 600 grams a kilowatt-hour for a decade.
    assert 0.2 < found.g_co2 / found.wh < 0.6
    assert capfd.readouterr() == ("", "")


def test_work_is_bounded_and_a_slow_model_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(energy, "SECONDS", 0.0)
    estimate(asked.append, "FRA")
    assert asked == [0]


def test_a_failing_estimate_fails_nothing():
    def broken(number):
        raise OSError("no sensor")

    assert estimate(broken, "DEU").reason == "OSError: no sensor"
    assert estimate(lambda number: None, "").reason == "not asked for"
    assert estimate(lambda number: None, "XXX").wh is None
