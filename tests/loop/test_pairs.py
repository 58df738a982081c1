"""The true DAG for pairs of texts."""

import random

import pytest

from tests.fixtures.prepared_rows import FILLERS, TOPICS
from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.messages import messages, write
from tests.loop.world import World
from tokka.gateway.client import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    generator = random.Random(5)
    rows = [{**row, "answer": " ".join(generator.choices(FILLERS, k=5))} for row in messages(450, seed=2)]
    write(folder / "pairs.csv", rows)
    found = World(
        folder, make_tiny_base(folder / "base"), rows=50,
        task={"target": "topic", "text_pair": "answer", "time": None},
        data={"source": str(folder / "pairs.csv")},
    )  # fmt: skip
    yield found
    found.close()


def test_pairs_from_the_file_to_an_endpoint_that_answers(pairs):
    final = pairs.tokka("run")
    assert (final["version"], final["gate"]["verdict"], final["canary"]["verdict"]) == ("1", "pass", "promoted")
    assert final["answer"]["label"] in TOPICS
    (found,) = predict(f"http://127.0.0.1:{pairs.settings.port}", ["print the paper page"], ["thank you"])
    assert found["label"] == "printer"
