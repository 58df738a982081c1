"""A real MLflow on SQLite, made once for the module's tests: importing it and making its tables costs seconds."""

import json
from pathlib import Path
from typing import Any

import pytest

from tokka.files import digest_bytes
from tokka.model.folder import model_digest, write_model_config
from tokka.params import Params, parse_params
from tokka.registry.bundle import Judgement, judgement
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings


def make_settings(home: Path, **environment: str) -> Settings:
    return Settings.from_environment({"TOKKA_HOME": str(home), "TOKKA_ROOT": str(home), **environment})


def make_model(folder: Path, weights: bytes = b"weights") -> Path:
    """A model folder with a true tokka.json; nothing here loads its files."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.int8.onnx").write_bytes(b"onnx" + weights)
    write_model_config(folder, MODEL)
    return folder


def subject(name: str, accuracy: float) -> dict[str, Any]:
    return {
        "name": name,
        "version": "",
        "form": "int8",
        "metrics": {"accuracy": {"value": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02}},
        "slices": [
            {"slice": "channel", "value": "e|mail", "rows": 80, "metric": {"value": 0.7, "low": 0.6, "high": 0.8}},
            {"slice": "channel", "value": "chat", "rows": 90, "metric": {"value": 0.9, "low": 0.8, "high": 0.95}},
        ],
        "latency_ms": {"p50": 1.5, "p99": 3.0},
        "size_mb": 23.0,
        "memory_mb": 150.0,
        "parameters": 22_000_000,
    }


def make_evaluation(accuracy: float = 0.94) -> dict[str, Any]:
    return {
        "task": "classification",
        "metric": "accuracy",
        "higher_is_better": True,
        "test": {"rows": 900, "digest": "c" * 64},
        "data_digest": "d" * 64,
        "candidate": subject("candidate", accuracy),
        "champion": None,
        "champion_status": "none",
        "general": subject("general", 0.4),
        "comparison": {
            "champion": None,
            "general": {"metric": "accuracy", "difference": 0.54, "low": 0.5, "high": 0.58, "p_value": 0.001},
        },
    }


def make_evidence(folder: Path, accuracy: float = 0.94) -> Path:
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(make_evaluation(accuracy)))
    (folder / "report.html").write_text("<html>report</html>")
    (folder / "reference.parquet").write_bytes(b"PAR1")
    return folder


MODEL = {
    "task": "classification",
    "labels": ["a", "b"],
    "text_pair": False,
    "max_tokens": 128,
    "pooling": "mean",
    "feature_scale": 10.0,
    "temperature": 1.0,
    "token_types": True,
    "padding": 0,
    "base": {"name": "tiny", "digest": "b" * 64},
    "serve": "int8",
}
PASS = {"verdict": "pass", "rules": [{"rule": "minimum", "verdict": "pass", "reason": "0.94 >= 0.6"}], "reasons": []}
REFUSE = {"verdict": "refuse", "rules": [], "reasons": ["accuracy 0.40 is below 0.60"]}
PROVENANCE = {
    "commit": "abc",
    "code_version": "1234",
    "data_digest": "d" * 64,
    "base_digest": "b" * 64,
    "synthetic": "true",
}


def judged(run_id: str, evidence: Path, model: Path, decision: dict[str, Any] = PASS) -> Judgement:
    """What the gate leaves in the record."""
    found = judgement(evidence, run_id, decision, generation=1, author="ana")
    return found.model_copy(update={"model_digest": model_digest(model)})


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("registry"))
    Registry(settings, "helpdesk").prepare()
    return settings


@pytest.fixture
def params(request: pytest.FixtureRequest) -> Params:
    """Params with a registered model of this test's own."""
    name = f"{request.node.originalname[:40]}-{digest_bytes(request.node.name.encode())[:8]}"
    return parse_params({"registry": {"model": name}})
