"""Evidently's pages on a rollout that has ended."""

import time

import numpy as np
import pytest

from tests.fakes.world import World
from tokka.deployment import rollout_files
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer
from tokka.errors import TokkaError
from tokka.monitoring import rollout_view
from tokka.request_log import log


def test_both_sides_are_compared_in_the_shadow_and_live(tmp_path):
    here, random = World(tmp_path), np.random.default_rng(1)
    home = here.settings.home
    challenger = Revision(version="2", digest="b" * 64)
    state = here.record.compare_and_set(
        here.state, challenger=challenger, phase="shadow", rollout="ab12", started=time.time() - 60
    )
    labels = [random.choice(["refund", "parcel"], size=80, p=share) for share in ((0.9, 0.1), (0.2, 0.8))]
    sides = tuple([Answer(label=str(label), score=float(random.random())) for label in side] for side in labels)
    rollout_files.write_answers(home, state, sides)
    writer = log.Writer(home / "requests", "test")
    facts = {"kind": "prediction", "time": time.time(), "share": 0.5, "label": "refund", "score": 0.5}
    writer.append([{**facts, "prediction_id": str(number), "version": str(1 + number % 2)} for number in range(20)])
    writer.close()
    assert not rollout_files.has_unseen_answers(home, state)
    ended = here.record.compare_and_set(state, challenger=None, phase="idle")
    assert rollout_files.has_unseen_answers(home, ended)
    summary = rollout_view.write(home, "ab12")
    shadow = summary["predictions"]
    assert (shadow["champion_rows"], shadow["challenger_rows"]) == (80, 80)
    values = {one["metric"].partition("(")[2]: one["value"] for one in shadow["columns"]}
    (p_value,) = [value for name, value in values.items() if name.startswith("column=prediction")]
    (confidence,) = [value for name, value in values.items() if name.startswith("column=confidence")]
    assert p_value < 0.001 < confidence
    page = (home / "rollouts" / "ab12" / "predictions.html").read_text()
    assert "<html" in page and "prediction" in page
    # Ten rows on a side show nothing.
    assert summary["predictions_live"] == {"champion_rows": 10, "challenger_rows": 10, "columns": []}
    assert not (home / "rollouts" / "ab12" / "predictions_live.html").exists()
    assert not rollout_files.has_unseen_answers(home, ended)


def test_a_rollout_without_answers_is_said_to_have_none(tmp_path):
    with pytest.raises(TokkaError, match="cannot be read"):
        rollout_view.write(tmp_path, "nobody")
