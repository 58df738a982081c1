"""The shadow: each input is asked once, live before replayed, and who fails or is slow is noted."""

import pytest

from tokka.deployment.inputs import Input
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer
from tokka.deployment.shadow import BATCH, Shadow
from tokka.errors import TokkaError

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)


def shadow(asked: list | None = None) -> Shadow:
    """Both models say "a", and what they are asked is noted."""

    def ask(digest, rows):
        if asked is not None:
            asked.append((digest[0], [row["text"] for row in rows]))
        return [Answer(label="a")] * len(rows)

    return Shadow(ask, None, 250.0)


def test_each_input_is_asked_once_live_ones_first():
    asked: list = []
    pairs = shadow(asked).ask_more(
        ONE, TWO, [Input("Hi!"), Input("hi")], [Input("hi", target="a", replayed=True), Input("there", replayed=True)]
    )
    assert sorted(asked) == [("a", ["Hi!", "there"]), ("b", ["Hi!", "there"])]
    assert (pairs.difference.size, pairs.replayed.tolist(), pairs.exhausted) == (2, [0.0, 1.0], True)


def test_batches_add_up_and_end_with_the_inputs():
    inputs = [Input(f"message {number}") for number in range(BATCH + 3)]
    here = shadow()
    assert not here.ask_more(ONE, TWO, inputs, []).exhausted
    pairs = here.ask_more(ONE, TWO, [], [])
    assert pairs.exhausted and pairs.difference.size == BATCH + 3
    assert here.ask_more(ONE, TWO, inputs, []).difference.size == BATCH + 3, "no input is asked twice"


def test_a_live_input_that_comes_while_others_wait_is_asked_before_what_was_replayed():
    asked: list = []
    here = shadow(asked)
    here.ask_more(ONE, TWO, [Input(f"old {number}", replayed=True) for number in range(BATCH + 9)], [])
    here.ask_more(ONE, TWO, [Input("live")], [Input("held out", target="a", replayed=True)])
    assert asked[-1][1][0] == "live" and asked[-1][1][-1] == "held out"


def test_inputs_that_nobody_could_be_asked_are_asked_later():
    ready = []

    def ask(digest, rows):
        if not ready:
            raise TokkaError("nobody is ready")
        return [Answer(label="a")] * len(rows)

    here = Shadow(ask, None, 250.0)
    with pytest.raises(TokkaError):
        here.ask_more(ONE, TWO, [Input("x")], [])
    ready.append(True)
    assert here.ask_more(ONE, TWO, [], []).difference.size == 1


def test_a_champion_that_fails_is_no_evidence_and_a_challenger_that_fails_is():
    def ask(digest, rows):
        broken = {"a": "old", "b": "new"}[digest[0]]
        return [Answer(error="500") if row["text"] == broken else Answer(label="a") for row in rows]

    pairs = Shadow(ask, None, 250.0).ask_more(ONE, TWO, [Input("old"), Input("new"), Input("both")], [])
    assert pairs.difference.tolist() == [-1.0, 0.0]
    assert pairs.failed == 1


def test_who_was_slow_is_noted_pair_by_pair():
    def ask(digest, rows):
        slow = {"a": ("old", "both"), "b": ("new", "both")}[digest[0]]
        return [Answer(label="a", latency_ms=900.0 if row["text"] in slow else 5.0) for row in rows]

    inputs = [Input("old"), Input("new"), Input("both"), Input("none")]
    assert Shadow(ask, None, 250.0).ask_more(ONE, TWO, inputs, []).speed.tolist() == [1.0, -1.0, 0.0, 0.0]


def test_after_a_class_was_renamed_both_are_compared_under_the_new_names():
    said = {"a": {"one": "card lost", "two": "card", "three": "spam", "four": "spam"}, "b": {}}

    def ask(digest, rows):
        return [Answer(label=said[digest[0]].get(row["text"], "card")) for row in rows]

    inputs = [Input("one"), Input("two", target="card"), Input("three"), Input("four", target="card")]
    pairs = Shadow(ask, None, 250.0, {"card lost": "card", "spam": ""}).ask_more(ONE, TWO, inputs, [])
    # Of a class that was retired only a label can say who is right.
    assert pairs.difference.tolist() == [0.0, 0.0, 1.0]
    plain = Shadow(ask, None, 250.0).ask_more(ONE, TWO, inputs, [])
    assert plain.disagreement.tolist() == [1.0, 0.0, 1.0, 1.0]
