"""What a client is told when nothing answers."""

import pytest

from tokka.errors import TokkaError
from tokka.gateway.client import predict
from tokka.gateway.replay import replay

NOBODY = "http://127.0.0.1:9"


def test_nobody_there_is_one_sentence():
    with pytest.raises(TokkaError, match="does not answer") as error:
        predict(NOBODY, ["hello"])
    assert "tokka up" in error.value.hint


def test_replay_says_that_nothing_answered():
    (result,) = replay([{"text": "hello", "target": "x"}], NOBODY)
    assert result.status == 0
    assert result.error


def test_no_rows_no_requests():
    assert replay([], NOBODY) == []
