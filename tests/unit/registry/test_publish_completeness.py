"""Everything that MLflow should know of a version, read back from a real one with MLflow's own client."""

import json
from pathlib import Path

import mlflow
import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, judged, make_evidence, make_model
from tokka import files
from tokka.model.folder import model_digest
from tokka.params import Params
from tokka.registry import entities, metrics, publish
from tokka.settings import Settings

CURVES = [
    {"epoch": 1.0, "step": 60.0, "train_loss": 1.5, "validation_accuracy": 0.7},
    {"epoch": 2.0, "step": 120.0, "train_loss": 0.6, "validation_accuracy": 0.9},
]
OUTCOME = {
    "metrics": {"temperature": 1.3, "onnx_int8_maximum_difference": 0.2, "validation_accuracy": 0.9},
    "curves": CURVES,
    "seconds": 30.0,
    "cpu_seconds": 55.0,
}


@pytest.fixture
def logged(settings: Settings, params: Params, tmp_path: Path) -> str:
    model, evidence = make_model(tmp_path / "model", params.registry.model.encode()), make_evidence(tmp_path / "e")
    digest = model_digest(model)
    files.write_json(settings.home / "store/finetune" / params.registry.model / "outcome.json",
                     {**OUTCOME, "digest": digest})  # fmt: skip
    assert metrics.write_training(settings.home, digest, evidence)
    run_id = publish.log_evaluation(evidence, model, params, settings, "k1", PROVENANCE)
    publish.record_decision(run_id, PASS, tmp_path / "gate", params, settings)
    assert publish.register_candidate(run_id, params, settings, judged(run_id, evidence, model))[0] == "1"
    return run_id


def test_run_and_version_tell_everything(logged: str, settings: Settings, params: Params) -> None:
    client = mlflow.MlflowClient(settings.tracking_uri, settings.tracking_uri)
    run = client.get_run(logged)
    assert run.data.params["finetuning/seed"] == str(params.finetuning.seed)
    assert run.data.params["export/serve"] == "int8"
    assert run.data.metrics["candidate/accuracy_low"] == pytest.approx(0.92)
    for name, wanted in {"train_loss": [1.5, 0.6], "validation_accuracy": [0.7, 0.9]}.items():
        history = client.get_metric_history(logged, f"training/{name}")
        assert sorted((point.step, point.value) for point in history) == list(zip([60, 120], wanted, strict=True))
    assert run.data.metrics["training/temperature"] == pytest.approx(1.3)
    assert run.data.metrics["training/final_validation_accuracy"] == pytest.approx(0.9)
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.source)["digest"] == "d" * 64
    assert data.dataset.digest == "d" * 32
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}
    # Who downloads the signed folder gets signed files only; MLflow's page reads what stands above it.
    assert {Path(file.path).name for file in client.list_artifacts(logged, "model")} == {
        "config.json", "model.int8.onnx", "model.safetensors", "model.sig", "tokenizer.json", "tokka.json"
    }  # fmt: skip
    names = {file.path for folder in ("evidence", "model") for file in client.list_artifacts(logged, folder)}
    assert {"evidence/evaluation.json", "evidence/report.html", "evidence/gate.json", "evidence/training.json",
            "evidence/model_card.md", "model/model.int8.onnx", "model/model.sig"} <= names  # fmt: skip

    version = client.get_model_version(params.registry.model, "1")
    assert version.run_id == logged
    assert version.description.startswith(f"# {params.registry.model}")
    wanted = {entities.KEY: "k1", entities.FORM: "int8", entities.PROFILE: "standard", entities.GATE: "pass",
              entities.COMMIT: "abc", entities.DATA_DIGEST: "d" * 64}  # fmt: skip
    assert wanted.items() <= version.tags.items()
    source = version.source.removeprefix("file://")
    described = mlflow.models.Model.load(source)
    assert described.signature.inputs.input_names() == ["text"]
    assert described.signature.outputs.input_names() == ["label", "score"]
    assert list(described.load_input_example(source).columns) == ["text"]


def test_logging_again_adds_no_point(logged: str, settings: Settings, params: Params, tmp_path: Path) -> None:
    again = publish.log_evaluation(tmp_path / "e", tmp_path / "model", params, settings, "k1", PROVENANCE)
    assert again == logged
    client = mlflow.MlflowClient(settings.tracking_uri, settings.tracking_uri)
    assert len(client.get_metric_history(logged, "training/train_loss")) == 2


def test_a_model_that_was_trained_elsewhere_has_no_curves(tmp_path: Path) -> None:
    assert not metrics.write_training(tmp_path, "0" * 64, tmp_path)
    assert metrics.of_training({}) == {}
