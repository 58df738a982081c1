"""The model's forms behind a worker: they agree, and another model than promised is refused."""

import pytest

from tests.fixtures.models import make_model
from tokka.errors import Refused
from tokka.serving.engine import Engine, Row


def test_rows_with_their_tokens_and_rows_without_are_answered_alike(tmp_path):
    make_model(tmp_path / "model", seed=5)
    rows = [Row("my card"), Row("where is my order? " * 300), Row("")]
    engine = Engine.load(tmp_path / "model")
    with_tokens = [one for row in rows[::2] for one in engine.prepare([row])]
    assert all(one.tokens is not None for one in with_tokens)
    without = engine.prepare(rows)
    assert all(one.tokens is None for one in without), "too many letters to hold the others up for"
    # Together, in one run, and each for itself.
    for first, second, third in (without, [with_tokens[0], without[1], with_tokens[1]]):
        assert engine.predict([first, second, third]) == [engine.predict([one])[0] for one in without]


def test_another_model_than_promised_is_refused(tmp_path):
    make_model(tmp_path / "model", seed=1)
    with pytest.raises(Refused, match="deployment record"):
        Engine.load(tmp_path / "model", digest="f" * 64)


def test_the_forms_agree(tmp_path):
    make_model(tmp_path / "model", seed=3)
    rows = [Row(f"order {number} refund") for number in range(20)]
    forms = [Engine.load(tmp_path / "model", form=form) for form in ("fp32", "int8")]
    labels = [[result.label for result in engine.predict(engine.prepare(rows))] for engine in forms]
    assert sum(one == other for one, other in zip(*labels, strict=True)) >= 18
    assert forms[0].warm_up(16) >= 0
