"""TF-IDF with a linear model learns without a language model, in any script, and says how large it is."""

import numpy as np
import pytest

from tokka.data.preparation.prepared import load
from tokka.evaluation.models.tfidf import TfidfModel


def columns(split):
    return split.column("text").to_pylist(), split.column("target").to_pylist()


def test_it_learns_and_its_scores_stand_in_the_order_of_the_labels(prepared):
    data = load(prepared)
    model = TfidfModel(data.labels)
    model.fit(columns(data.train)[0], None, columns(data.train)[1])
    texts, truths = columns(data.test)
    scores = model.predict(texts)
    assert scores.shape == (len(texts), 3)
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(texts)))
    right = [data.labels[place] == truth for place, truth in zip(scores.argmax(axis=1), truths, strict=True)]
    assert np.mean(right) > 0.9
    assert model.parameters > 100
    assert 0 < model.megabytes < 5


def test_two_classes_of_a_language_without_spaces_and_one_that_never_occurs():
    good, bad = ["很漂亮非常喜欢", "很好喜欢", "非常漂亮很好"], ["太差了退货", "很差太慢退货", "太慢太差"]
    model = TfidfModel(["bad", "good", "never"])
    model.fit(good * 4 + bad * 4, None, ["good"] * 12 + ["bad"] * 12)
    assert model.predict(["喜欢漂亮", "退货太慢"]).argmax(axis=1).tolist() == [1, 0]
    assert (model.predict(good)[:, 2] == 0).all()


def test_values_and_pairs(prepared_regression):
    data = load(prepared_regression)
    model, (texts, targets) = TfidfModel([]), columns(data.train)
    model.fit(texts, texts[::-1], targets)
    values = model.predict(*[columns(data.test)[0]] * 2)
    assert values.shape == (data.test.num_rows, 1)
    assert np.isfinite(values).all()
