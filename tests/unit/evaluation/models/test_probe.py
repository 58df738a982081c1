"""The probe's figures of one text at a time: processor time per answer, and memory without what fitting took."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tokka.evaluation.metrics import energy
from tokka.evaluation.models import probe, tfidf

MEGABYTES = 400


def test_processor_time_is_that_of_one_answer(monkeypatch):
    """A model that takes exactly a millisecond of processor time per answer."""
    answers = []
    monkeypatch.setattr(probe, "time", SimpleNamespace(process_time=lambda: len(answers) * 1e-3))
    monkeypatch.setattr(energy, "estimate", lambda ask, country: energy.Energy())
    found = probe._one_by_one(lambda texts, pairs: answers.append(texts), ["a", "b"], None, "")
    assert found["cpu_ms"] == pytest.approx(1.0)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="this system cannot forget its peak")
def test_the_memory_of_what_is_fitted_leaves_its_fitting_out(monkeypatch):
    class Hungry:
        megabytes, parameters = 1.0, 1

        def __init__(self, labels):
            self.predict = None

        def fit(self, texts, pairs, targets):
            np.ones(MEGABYTES * 125_000).sum()

    monkeypatch.setattr(tfidf, "TfidfModel", Hungry)
    probe.forget_peak_memory()
    before = probe.peak_memory_mb()
    job = {"kind": "tfidf", "folder": ".", "max_tokens": 8, "labels": ["a"]}
    probe.open_model({**job, "known": {"texts": [], "pairs": None, "targets": []}})
    assert probe.peak_memory_mb() < before + MEGABYTES / 2
