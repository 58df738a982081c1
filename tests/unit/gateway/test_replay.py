"""Replaying rows: nobody who answers is told of, and nothing to send is nothing sent."""

from tokka.gateway.replay import replay

NOBODY = "http://127.0.0.1:9"


def test_replay_says_that_nothing_answered():
    (result,) = replay([{"text": "hello", "target": "x"}], NOBODY)
    assert result.status == 0
    assert result.error


def test_no_rows_no_requests():
    assert replay([], NOBODY) == []
