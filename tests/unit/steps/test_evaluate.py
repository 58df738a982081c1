"""A key that was evaluated twice: what a version was made of stands, with a real MLflow and record."""

import json
from pathlib import Path

import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, judged, make_evidence, make_model, make_settings
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.errors import Refused
from tokka.files import digest_bytes, digest_file
from tokka.params import Params, parse_params
from tokka.registry import publish
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings
from tokka.steps.evaluate import take_standing

NAME = "twice"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = make_settings(tmp_path_factory.mktemp("evaluate"))
    Registry(made, NAME).prepare()
    return made


@pytest.fixture
def params(request: pytest.FixtureRequest) -> Params:
    mark = digest_bytes(request.node.name.encode())[:8]
    return parse_params({"registry": {"model": f"{NAME}-{mark}", "review": "required"}})


class Key:
    """Evaluations of one key: `evaluate` measures once more, and logs it."""

    def __init__(self, settings: Settings, params: Params, folder: Path) -> None:
        self.settings, self.params, self.folder, self.times = settings, params, folder, 0
        self.model = make_model(folder / "model", weights=params.registry.model.encode())
        self.evidence = Evidence(Record(settings.record_url), params.registry.model)

    def evaluate(self) -> tuple[str, Path]:
        self.times += 1
        out = make_evidence(self.folder / f"evidence-{self.times}")
        found = json.loads((out / "evaluation.json").read_text())
        found["candidate"]["latency_ms"]["p50"] = float(self.times)
        (out / "evaluation.json").write_text(json.dumps(found))
        return publish.log_evaluation(out, self.model, self.params, self.settings, "k1", PROVENANCE), out

    def gate(self, run_id: str, out: Path) -> None:
        told = judged(run_id, out, self.model)
        self.evidence.judge(run_id, told.model_dump(mode="json"))
        publish.record_decision(run_id, PASS, self.folder / "gate", self.params, self.settings)

    def register(self, run_id: str, out: Path) -> str:
        return publish.register_candidate(run_id, self.params, self.settings, judged(run_id, out, self.model))[0]


@pytest.fixture
def key(settings: Settings, params: Params, tmp_path: Path) -> Key:
    return Key(settings, params, tmp_path)


def test_while_a_version_waits_the_same_key_measured_again_ends_at_that_version(key: Key) -> None:
    run_id, first = key.evaluate()
    assert not take_standing(run_id, key.params, key.settings, first), "nothing was made of it yet"
    key.gate(run_id, first)
    assert key.register(run_id, first) == "1"
    again, second = key.evaluate()
    assert again == run_id and digest_file(second / "evaluation.json") != digest_file(first / "evaluation.json")
    assert take_standing(again, key.params, key.settings, second)
    assert digest_file(second / "evaluation.json") == digest_file(first / "evaluation.json")
    key.gate(again, second)
    assert key.register(again, second) == "1"
    assert not take_standing(again, key.params, key.settings, second), "it is there already"


def test_evidence_that_was_altered_in_mlflow_does_not_become_what_is_judged(key: Key) -> None:
    run_id, first = key.evaluate()
    key.gate(run_id, first)
    key.register(run_id, first)
    again, second = key.evaluate()
    before = (second / "evaluation.json").read_bytes()
    stored = key.settings.home / "artifacts" / run_id / "artifacts" / "evidence" / "evaluation.json"
    stored.write_text(stored.read_text().replace("0.94", "0.99"))
    with pytest.raises(Refused, match="not the one that the gate has judged"):
        take_standing(again, key.params, key.settings, second)
    assert (second / "evaluation.json").read_bytes() == before
