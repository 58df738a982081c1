"""`gate.must_beat: simple` through the true DAG: a training too short to beat what is simple is refused in words."""

import random

import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.messages import write
from tests.loop.world import World

pytestmark = pytest.mark.slow
FILLERS = ("please", "thank", "you", "hello", "print", "page", "order", "address", "network", "printer", "paper")


def rows(count: int) -> list[dict]:
    """Two words in one order or the other, no two neighbours: their counts say nothing, their places do."""
    generator, found = random.Random(4), []
    for number in range(count):
        first, second = pair = [("card", "refund"), ("refund", "card")][number % 2]
        before, between, more, after = generator.choices(FILLERS, k=4)
        found.append({"text": f"{before} {first} {between} {more} {second} {after}", "label": f"{pair[0]} first"})
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("must-beat")
    write(folder / "order.csv", rows(1500))
    found = World(
        folder, make_tiny_base(folder / "base"), rows=50,
        task={"target": "label", "time": None},
        data={"source": str(folder / "order.csv")},
        preprocessing={"deduplicate": "exact"},
        gate={"must_beat": "simple"},
    )  # fmt: skip
    yield found
    found.close()


def test_what_does_not_beat_the_simple_ways_is_refused_in_words(world):
    final = world.tokka("run", "--set", "finetuning.epochs=1", "--set", "finetuning.learning_rate=1e-7", code=3)
    (said,) = [reason for reason in final["gate"]["reasons"] if "TF-IDF" in reason]
    assert "against the linear head" in said and "the low end must be above 0" in said
    assert (final["gate"]["verdict"], final["version"], world.state().champion) == ("refuse", None, None)
