"""The general baseline: label names as words, zero-shot by cosine, neighbours for regression."""

import numpy as np
import pytest

from tokka.evaluation.models import zero_shot as module
from tokka.evaluation.models.zero_shot import label_words, nearest_neighbours, zero_shot


@pytest.mark.parametrize(
    ("label", "words"),
    [("card_arrival", "card arrival"), ("cardArrival", "card arrival"),
     ("Refund-not_showing up?", "refund not showing up"),
     ("42", "42"), ("___", "___"), ("größe", "größe")],
)  # fmt: skip
def test_labels_become_words(label, words):
    assert label_words(label) == words


def test_zero_shot_gives_probabilities_with_the_nearest_label_first():
    labels = np.eye(3, dtype=np.float32)
    scores = zero_shot(np.array([[0.9, 0.1, 0.0], [0.0, 0.6, 0.8]], np.float32), labels)
    assert scores.argmax(axis=1).tolist() == [0, 2]
    assert scores.sum(axis=1) == pytest.approx([1.0, 1.0])


def test_neighbours_average_the_nearest_targets_in_every_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    known = np.repeat(np.eye(2, dtype=np.float32), module.NEIGHBOURS, axis=0)
    targets = np.repeat([1.0, 5.0], module.NEIGHBOURS)
    texts = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], np.float32)
    assert nearest_neighbours(texts, known, targets)[:, 0].tolist() == [1.0, 5.0, 1.0, 5.0, 1.0]


def test_fewer_rows_than_neighbours_is_their_mean():
    found = nearest_neighbours(np.ones((1, 2)), np.ones((3, 2)), np.array([1.0, 2.0, 6.0]))
    assert found[0, 0] == pytest.approx(3.0)


def test_embeddings_do_not_depend_on_the_batch_that_a_text_is_in(base, monkeypatch):
    encoder = module.FrozenEncoder(base, 48)
    texts = ["where is my card", "refund", "the printer is out of paper again and will not print this page", "hello"]
    together = encoder.embed(texts)
    monkeypatch.setattr(module, "BATCH", 1)
    assert encoder.embed(texts) == pytest.approx(together, abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
