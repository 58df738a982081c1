"""Another form of the same training, the edge profile, and the figures of training against scikit-learn's."""

from pathlib import Path

import pytest

from tests.fixtures.training import MakeParams
from tokka.model.folder import read_model_config
from tokka.params import parse_params
from tokka.settings import Settings
from tokka.training import finetuning
from tokka.training.finetuning import finetune, finetune_step


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home")})


def test_another_served_form_trains_nothing_and_is_what_a_fresh_training_gives(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finetune_step(prepared, make_params(), settings, tmp_path / "int8", "d" * 64)
    assert not first["training_reused"]
    fresh = finetune(prepared, make_params(export={"serve": "fp32"}), tmp_path / "fresh", tmp_path / "work")

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("tokka.training.train.fit", refuse)
    monkeypatch.setattr("tokka.training.train.fit_head", refuse)
    other = finetune_step(prepared, make_params(export={"serve": "fp32"}), settings, tmp_path / "fp32", "d" * 64)
    assert other["training_reused"]
    assert not other["reused"]
    assert read_model_config(tmp_path / "fp32").serve == "fp32"
    assert other["weights_sha256"] == first["weights_sha256"]
    assert other["digest"] != first["digest"]
    assert other["digest"] == fresh["digest"]
    assert other["curves"] == first["curves"]


def test_damaged_weights_are_trained_again(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    first = finetune_step(prepared, make_params(strategy="frozen"), settings, tmp_path / "one", "d" * 64)
    (weights,) = (settings.home / "store" / finetuning.TRAINING).glob("*/weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    params = make_params(strategy="frozen", export={"serve": "fp32"})
    other = finetune_step(prepared, params, settings, tmp_path / "two", "d" * 64)
    assert not other["training_reused"]
    assert other["weights_sha256"] == first["weights_sha256"]


def test_a_refused_export_keeps_the_training(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    strict = make_params(strategy="frozen", export={"maximum_difference": 1e-12})
    with pytest.raises(Exception, match="maximum_difference"):
        finetune_step(prepared, strict, settings, tmp_path / "out", "d" * 64)
    again = finetune_step(prepared, make_params(strategy="frozen"), settings, tmp_path / "out", "d" * 64)
    assert again["training_reused"]


def test_the_edge_profile_cuts_texts_in_training_and_in_the_model(
    prepared: Path, make_params: MakeParams, settings: Settings, tmp_path: Path
) -> None:
    standard = make_params(strategy="frozen")
    edge = make_params(strategy="frozen", export={"profile": "edge", "edge": {"max_tokens": 8}})
    longer = finetune_step(prepared, standard, settings, tmp_path / "standard", "d" * 64)
    shorter = finetune_step(prepared, edge, settings, tmp_path / "edge", "d" * 64)
    config = read_model_config(tmp_path / "edge")
    assert (config.max_tokens, config.serve) == (8, "int8")
    assert not shorter["training_reused"]
    assert shorter["weights_sha256"] != longer["weights_sha256"]


def test_the_key_of_the_training_leaves_the_export_out_but_for_the_length_of_texts() -> None:
    def key(**export: object) -> str:
        return finetuning.training_key(parse_params({"export": export}), "d", "b")

    assert key() == key(serve="fp32") == key(int8=False, serve="torch", onnx=False)
    assert key() != key(profile="edge")
    assert key(profile="edge") == key(profile="edge", edge={"size_budget_mb": 10.0})
