"""The true DAG for values instead of classes, with an official test file, and with a person who reviews."""

import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.messages import messages, write
from tests.loop.world import World
from tokka import files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    rows = messages(550, seed=1)
    write(folder / "train.csv", rows[:400])
    write(folder / "test.csv", rows[400:])
    found = World(
        folder, make_tiny_base(folder / "base"), rows=50,
        task={"type": "regression", "target": "worth", "time": None},
        data={"source": str(folder / "train.csv"), "test": str(folder / "test.csv")},
        evaluation={"insight": True, "general": {"linear": True}},
        # The words give the value away: neighbours in the un-tuned encoder find it as well.
        gate={"beat_general": False},
        # Three epochs of a tiny network with words left out: the second version would be worse, and rightly refused.
        finetuning={"epochs": 3, "learning_rate": 0.003, "batch_size": 32, "augmentation": {"word_dropout": 0.0}},
    )  # fmt: skip
    yield found
    found.close()


def test_values_from_the_file_to_an_endpoint_that_answers(values):
    final = values.tokka("run")
    assert {step["status"] for step in final["steps"]} == {"done"}
    assert (final["version"], final["gate"]["verdict"], final["canary"]["verdict"]) == ("1", "pass", "promoted")
    assert isinstance(final["answer"]["value"], float)
    assert final["metrics"]["general"]["mae"] > 0
    (path,) = (path for path in values.home.glob("runs/*/artifacts/**/evaluation.json"))
    found = files.read_json(path)["candidate"]["metrics"]
    for name in ("mae", "rmse", "r2", "pearson", "spearman"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert found["r2"]["value"] > 0.5


def test_a_second_version_is_judged_by_its_values_and_a_person_decides(values):
    less = ("--set", "evaluation.insight=false", "--set", "evaluation.general.linear=false")
    required = ("--set", "finetuning.seed=8", "--set", "registry.review=required", *less)
    final = values.tokka("run", *required)
    assert (final["version"], final["review"], final["canary"]) == ("2", "waiting", None)
    assert final["metrics"]["champion"]["mae"] > 0
    assert values.state().champion.version == "1"
    approved = values.tokka("review", "approve", "2", "--comment", "looked at it", *required)
    assert approved["canary"]["verdict"] == "promoted"
    assert values.state().champion.version == "2"
    assert values.tokka("review", "show", "2")["tags"]["tokka.reviewer"]
    low, high = (
        values.tokka("predict", text)["answers"][0]["value"] for text in ("my card is lost", "print the paper page")
    )
    assert low < 10 < high
    assert values.tokka("monitor", "--once")["drift"]["verdict"] in {"wait", "healthy"}
