"""From evaluation to a version and back to verified files: what no gate passed, or anybody altered, gets nowhere."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, REFUSE, judged, make_evidence, make_model
from tokka.errors import Refused, TokkaError
from tokka.files import digest_file
from tokka.model.folder import model_digest
from tokka.params import Params
from tokka.registry import bundle, entities, metrics, model_cache, publish, signing
from tokka.registry.bundle import Judgement
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
        self.judged: Judgement | None = None
        self.envelope = ""

    def decide(self, decision: dict[str, Any]) -> None:
        self.judged = judged(self.run_id, self.evidence, self.model, decision)
        (self.folder / "gate").mkdir(exist_ok=True)
        publish.record_decision(self.run_id, decision, self.folder / "gate", self.params, self.settings)

    def register(self, override: str = "") -> str:
        version, self.envelope = publish.register_candidate(
            self.run_id, self.params, self.settings, self.judged, override
        )
        return version

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


def test_the_commit_of_whoever_submitted_it_counts_where_the_evaluation_knew_none(case: Case) -> None:
    settings, unknown = case.settings, {**PROVENANCE, "commit": ""}
    run_id = publish.log_evaluation(case.evidence, case.model, case.params, settings, "k2", unknown)
    for name, commit in ((run_id, "c" * 40), (run_id, "d" * 40), (case.run_id, "d" * 40)):
        (case.folder / "gate").mkdir(exist_ok=True)
        publish.record_decision(name, PASS, case.folder / "gate", case.params, settings, commit=commit)
    assert case.registry.run(run_id).tags[entities.COMMIT] == "c" * 40
    assert case.registry.run(case.run_id).tags[entities.COMMIT] == "abc"


def test_what_is_forged_in_mlflow_passes_no_gate(case: Case, tmp_path: Path) -> None:
    """The tag, and the decision beside the evaluation: only the record's word is signed."""
    publish.record_decision(case.run_id, PASS, tmp_path / "forged", case.params, case.settings)
    with pytest.raises(Refused, match="no decision was recorded"):
        case.register()
    case.decide(REFUSE)
    publish.record_decision(case.run_id, PASS, tmp_path / "forged", case.params, case.settings)
    with pytest.raises(Refused, match=r"below 0\.60"):
        case.register()


def test_an_evaluation_that_was_exchanged_after_the_gate_is_not_registered(case: Case) -> None:
    case.decide(PASS)
    path = case.artifact("evidence/evaluation.json")
    path.write_text(path.read_text().replace("0.94", "0.99"))
    with pytest.raises(Refused, match="is not the one that the gate has judged"):
        case.register()
    assert case.registry.versions() == []


def test_a_version_carries_signed_evidence_that_nobody_can_alter(case: Case, tmp_path: Path) -> None:
    case.decide(PASS)
    version = case.register()
    name, settings = case.params.registry.model, case.settings
    found = bundle.unseal(case.envelope, name, version, settings)
    assert (found.verdict, found.model_digest) == ("pass", model_digest(case.model))
    assert (found.test_digest, found.generation, found.author) == ("c" * 64, 1, "ana")
    assert found.evaluation_digest == digest_file(case.evidence / "evaluation.json")
    assert case.artifact("evidence/bundle.json").read_text() == case.envelope
    for model, number in ((name, "2"), ("another", version)):
        with pytest.raises(Refused, match="is that of version"):
            bundle.unseal(case.envelope, model, number, settings)
    payload = json.loads(case.envelope)
    forged = found.model_copy(update={"verdict": "pass", "model_digest": "0" * 64})
    payload["payload"] = base64.b64encode(signing.canonical(forged.model_dump(mode="json"))).decode()
    strangers = settings.model_copy(
        update={"home": tmp_path, "signing_key": tmp_path / "their.key", "verify_key": tmp_path / "their.pub"}
    )
    for envelope in (json.dumps(payload), bundle.seal(forged, strangers), "{}", ""):
        with pytest.raises(Refused, match="is not what was signed"):
            bundle.unseal(envelope, name, version, settings)


def test_a_tag_in_mlflow_names_no_other_model(case: Case) -> None:
    case.decide(PASS)
    case.register()
    case.registry.tag_version("1", {entities.MODEL_DIGEST: "0" * 64, entities.GATE: "refuse"})
    assert publish.fetch_version("1", case.params, case.settings).name == model_digest(case.model)


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
    flat = metrics.flat_params(params, Params.model_fields)
    assert flat["finetuning/learning_rate"] == "0.0003"
    assert flat["finetuning/early_stopping.patience"] == "3"
    assert all("/" in name for name in flat)
    found = metrics.of_evaluation({"candidate": {"metrics": {"f1": {"value": 0.5, "low": None}}}, "champion": None})
    assert found == {"candidate/f1": 0.5}


def test_in_a_pod_the_step_that_registers_signs(settings: Settings, params: Params, tmp_path: Path) -> None:
    """Only it has the key; who verifies elsewhere has the public half."""
    signing.sign(make_model(tmp_path / "any"), settings)
    params = params.model_copy(update={"registry": params.registry.model_copy(update={"model": "of-a-pod"})})
    pod = settings.model_copy(update={"in_pod": True})
    case = Case(pod.model_copy(update={"signing_key": tmp_path / "none"}), params, tmp_path)
    assert not case.artifact("model/model.sig").exists()
    case.decide(PASS)
    case.settings = pod
    version = case.register()
    assert case.artifact("model/model.sig").is_file()
    folder = publish.fetch_version(version, params, settings)
    assert signing.verify(folder, settings)
    assert case.register() == version


def test_in_a_pod_a_stored_model_that_was_altered_is_not_signed(
    settings: Settings, params: Params, tmp_path: Path
) -> None:
    signing.sign(make_model(tmp_path / "any"), settings)
    params = params.model_copy(update={"registry": params.registry.model_copy(update={"model": "altered"})})
    case = Case(settings.model_copy(update={"in_pod": True}), params, tmp_path)
    case.decide(PASS)
    case.artifact("model/model.safetensors").write_bytes(b"others")
    with pytest.raises(Refused, match="has changed since the model was made"):
        case.register()
    assert not case.artifact("model/model.sig").exists()
