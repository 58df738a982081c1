"""From evaluation to a version and back to verified files: what no gate passed, or anybody altered, gets nowhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, REFUSE, make_evidence, make_model
from tokka.errors import Refused, TokkaError
from tokka.model.folder import model_digest
from tokka.params import Params
from tokka.registry import entities, metrics, model_cache, publish, signing
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings


class Case:
    """One candidate, logged."""

    def __init__(self, settings: Settings, params: Params, folder: Path, key: str = "k1") -> None:
        self.settings, self.params, self.folder = settings, params, folder
        # Weights of this case's own: served copies are shared by digest.
        self.model = make_model(folder / "model", weights=params.registry.model.encode())
        self.evidence = make_evidence(folder / "evidence")
        self.run_id = publish.log_evaluation(self.evidence, self.model, params, settings, key, PROVENANCE)
        self.registry = Registry(settings, params.registry.model)

    def decide(self, decision: dict[str, Any]) -> None:
        (self.folder / "gate").mkdir(exist_ok=True)
        publish.record_decision(self.run_id, decision, self.folder / "gate", self.params, self.settings)

    def register(self, override: str = "") -> str:
        return publish.register_candidate(self.run_id, self.params, self.settings, override)

    def artifact(self, name: str) -> Path:
        return Path(self.settings.home / "artifacts" / self.run_id / "artifacts" / name)


@pytest.fixture
def case(settings: Settings, params: Params, tmp_path: Path) -> Case:
    return Case(settings, params, tmp_path)


def test_a_passed_candidate_becomes_a_version_with_its_card_evidence_and_signature(case: Case, tmp_path: Path) -> None:
    case.decide(PASS)
    assert case.register() == "1"
    version = case.registry.version("1")
    assert "Synthetic data" in version.description
    assert "0.9400 [0.9200, 0.9600]" in version.description
    assert version.tags[entities.KEY] == "k1"
    assert version.tags[entities.GATE] == "pass"
    assert version.tags[entities.DATA_DIGEST] == "d" * 64
    assert version.aliases == ("challenger",)
    folder = publish.fetch_version("1", case.params, case.settings)
    assert folder == case.settings.home / "models" / model_digest(case.model)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(path.name for path in case.model.iterdir()), signing.SIGNATURE]
    )
    case.registry.download_evidence("1", tmp_path / "evidence-back")
    names = {path.name for path in (tmp_path / "evidence-back").iterdir()}
    assert {"evaluation.json", "report.html", "gate.json", "provenance.json", "model_card.md"} <= names
    assert publish.fetch_evidence("reference.parquet", "1", case.params, case.settings).read_bytes() == b"PAR1"


def test_the_lineage_comes_back_whole(case: Case) -> None:
    case.decide(PASS)
    case.register()
    assert publish.fetch_lineage("1", case.params, case.settings) == PROVENANCE


def test_the_callers_folders_stay_as_they_are(case: Case) -> None:
    assert not (case.model / signing.SIGNATURE).exists()
    assert not (case.evidence / "provenance.json").exists()


def test_registering_again_gives_the_same_version(case: Case, tmp_path: Path) -> None:
    case.decide(PASS)
    assert [case.register(), case.register()] == ["1", "1"]
    again = publish.log_evaluation(case.evidence, case.model, case.params, case.settings, "k1", PROVENANCE)
    assert again == case.run_id


def test_without_a_decision_nothing_is_registered(case: Case) -> None:
    with pytest.raises(Refused, match="did not pass the gate: no decision"):
        case.register()
    assert case.registry.versions() == []


def test_a_refused_candidate_needs_a_reason(case: Case) -> None:
    case.decide(REFUSE)
    with pytest.raises(Refused, match=r"below 0\.60"):
        case.register()
    with pytest.raises(Refused):
        case.register("   ")
    assert case.registry.versions() == []
    assert case.register("demonstration of a rollback") == "1"
    version = case.registry.version("1")
    assert version.tags[entities.OVERRIDE] == "demonstration of a rollback"
    assert version.tags[entities.GATE] == "refuse"
    assert "Registered past the gate" in version.description


def test_a_tag_alone_does_not_pass_the_gate(case: Case) -> None:
    case.registry.tag_run(case.run_id, {entities.GATE: "pass"})
    with pytest.raises(Refused, match="no decision was recorded"):
        case.register()


def test_a_stored_decision_alone_does_not_pass_the_gate(case: Case) -> None:
    case.decide(PASS)
    case.registry.tag_run(case.run_id, {entities.GATE: "refuse"})
    with pytest.raises(Refused):
        case.register()


def change_stored_byte(case: Case) -> None:
    path = case.artifact("model/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"X")


def remove_stored_signature(case: Case) -> None:
    case.artifact("model/model.sig").unlink()


def add_stored_pickle(case: Case) -> None:
    case.artifact("model/weights.pkl").write_bytes(b"\x80\x04.")


def change_digest_tag(case: Case) -> None:
    case.registry.tag_run(case.run_id, {entities.MODEL_DIGEST: "0" * 64})


def name_another_folder(case: Case) -> None:
    case.registry.tag_run(case.run_id, {entities.MODEL_DIGEST: "../../keys"})


@pytest.mark.parametrize(
    "tamper", [change_stored_byte, remove_stored_signature, add_stored_pickle, change_digest_tag, name_another_folder]
)
def test_an_altered_model_is_not_registered(tamper: Any, case: Case) -> None:
    case.decide(PASS)
    tamper(case)
    with pytest.raises(Refused):
        case.register()
    assert case.registry.versions() == []
    assert not list((case.settings.home / "models").glob(".staging-*"))


def test_a_missing_model_is_not_registered(case: Case) -> None:
    case.decide(PASS)
    shutil.rmtree(case.artifact("model"))
    with pytest.raises(TokkaError):
        case.register()
    assert case.registry.versions() == []


def test_an_altered_served_copy_is_fetched_again(case: Case) -> None:
    case.decide(PASS)
    case.register()
    folder = publish.fetch_version("1", case.params, case.settings)
    (folder / "tokenizer.json").write_text('{"evil": 1}')
    assert model_cache.verified_copy(case.settings, folder.name) is None
    assert publish.fetch_version("1", case.params, case.settings) == folder
    assert (folder / "tokenizer.json").read_text() == "{}"
    assert model_cache.verified_copy(case.settings, folder.name) == folder


def test_a_served_copy_that_verifies_needs_no_artifact(case: Case) -> None:
    case.decide(PASS)
    case.register()
    shutil.rmtree(case.artifact("model"))
    assert publish.fetch_version("1", case.params, case.settings).is_dir()


def test_another_model_than_the_evaluated_one_is_refused(settings: Settings, params: Params, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not the model that was evaluated"):
        publish.log_evaluation(
            make_evidence(tmp_path / "e"),
            make_model(tmp_path / "m"),
            params,
            settings,
            "k1",
            {**PROVENANCE, "model_digest": "0" * 64},
        )


def test_a_missing_evaluation_is_named(settings: Settings, params: Params, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match=r"evaluation\.json"):
        publish.log_evaluation(tmp_path, make_model(tmp_path / "m"), params, settings, "k1", PROVENANCE)


def test_the_page_files_name_no_loader_of_code(case: Case) -> None:
    text = case.artifact("MLmodel").read_text()
    assert "python_function" not in text
    assert "pickle" not in text
    assert json.loads(case.artifact("input_example.json").read_text())["columns"] == ["text"]


def test_a_champion_does_not_become_challenger_again(case: Case) -> None:
    case.decide(PASS)
    case.register()
    case.registry.set_alias("champion", "1")
    case.registry.delete_alias("challenger")
    case.register()
    assert case.registry.aliases() == {"champion": "1"}


def test_params_and_metrics_are_flat_and_prefixed(params: Params) -> None:
    flat = publish.flat_params(params)
    assert flat["finetuning/learning_rate"] == "0.0003"
    assert flat["finetuning/early_stopping.patience"] == "3"
    assert all("/" in name for name in flat)
    found = metrics.of_evaluation({"candidate": {"metrics": {"f1": {"value": 0.5, "low": None}}}, "champion": None})
    assert found == {"candidate/f1": 0.5}
