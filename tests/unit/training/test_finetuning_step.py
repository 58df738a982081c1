"""The step reuses what it made, verified, without loading torch; and makes anew what was damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.training import MakeParams
from tokka.errors import TokkaError
from tokka.model.folder import model_digest
from tokka.settings import Settings
from tokka.training.finetuning import finetune_step

AGAIN = """
import json, sys
from pathlib import Path
from tokka.params import parse_params
from tokka.settings import Settings
from tokka.training.finetuning import finetune_step
prepared, params, home, out = sys.argv[1:]
settings = Settings.from_environment({"TOKKA_HOME": home})
outcome = finetune_step(Path(prepared), parse_params(json.loads(params)), settings, Path(out), "d" * 64)
print(outcome["reused"], [name for name in ("torch", "lightning", "onnxruntime") if name in sys.modules])
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})


def test_a_second_call_costs_no_training(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    params = make_params(strategy="frozen")
    first = finetune_step(prepared, params, settings, tmp_path / "one", "d" * 64)
    assert not first["reused"]
    assert not list((settings.home / "store" / "finetune").glob(".work-*"))
    command = [sys.executable, "-c", AGAIN, str(prepared), params.model_dump_json(), str(settings.home)]
    run = subprocess.run([*command, str(tmp_path / "two")], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True []"
    assert model_digest(tmp_path / "two") == first["digest"]


def test_other_data_or_params_train_anew(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    frozen = make_params(strategy="frozen")
    assert not finetune_step(prepared, frozen, settings, tmp_path / "a", "d" * 64)["reused"]
    assert not finetune_step(prepared, frozen, settings, tmp_path / "b", "e" * 64)["reused"]
    assert not finetune_step(prepared, make_params(strategy="frozen", seed=3), settings, tmp_path / "c", "d" * 64)[
        "reused"
    ]


def test_a_damaged_store_is_not_used(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    params = make_params(strategy="frozen")
    first = finetune_step(prepared, params, settings, tmp_path / "out", "d" * 64)
    (weights,) = (settings.home / "store" / "finetune").glob("*/model/model.int8.onnx")
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    again = finetune_step(prepared, params, settings, tmp_path / "out", "d" * 64)
    assert not again["reused"]
    assert again["digest"] == first["digest"]


def test_a_failure_leaves_no_model(prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path) -> None:
    params = make_params(strategy="frozen", export={"maximum_difference": 1e-12})
    with pytest.raises(TokkaError):
        finetune_step(prepared, params, settings, tmp_path / "out", "d" * 64)
    assert not (tmp_path / "out").exists()
    assert not list((settings.home / "store" / "finetune").glob("*/manifest.json"))
