"""Another form of the same training, the edge profile, and the figures of training against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from tests.fixtures.training import MakeParams
from tokka.errors import UsageError
from tokka.model import profile
from tokka.model.folder import read_model_config
from tokka.params import parse_params
from tokka.settings import Settings
from tokka.training import finetuning
from tokka.training.calibration import expected_calibration_error
from tokka.training.finetuning import finetune, finetune_step
from tokka.training.fit.validation import validation_metrics


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


@pytest.mark.parametrize(
    "export",
    [{"profile": "edge", "serve": "fp32"}, {"profile": "edge", "int8": False}, {"serve": "fp32", "onnx": False}],
)
def test_forms_that_contradict_each_other_are_refused(export: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        profile.check_export(parse_params({"export": export}))


def test_the_budgets_are_those_of_the_profile() -> None:
    export = {"edge": {"max_tokens": 32, "latency_budget_ms": 5.0, "size_budget_mb": 6.0}}
    standard = parse_params({"export": export, "evaluation": {"latency_budget_ms": 50.0, "size_budget_mb": 60.0}})
    edge = parse_params({"export": {**export, "profile": "edge"}})
    assert (profile.budgets(standard).latency_ms, profile.budgets(standard).size_mb) == (50.0, 60.0)
    assert (profile.budgets(edge).latency_ms, profile.budgets(edge).size_mb) == (5.0, 6.0)
    assert (profile.max_tokens(standard), profile.max_tokens(edge)) == (128, 32)
    assert profile.max_tokens(parse_params({"export": {"profile": "edge"}, "model": {"max_tokens": 16}})) == 16


def test_the_figures_of_classification_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, 200)  # class 4 is never the truth, and sometimes the answer
    logits = generator.normal(size=(200, 5)) + 2 * np.eye(5)[targets]
    found, predicted = validation_metrics("classification", logits, targets), logits.argmax(axis=1)
    assert 4 in predicted
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, predicted))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(targets, predicted, labels=range(4), average="macro"))
    assert found["loss"] == pytest.approx(sk.log_loss(targets, softmax(logits, axis=1), labels=range(5)))


def test_the_figures_of_regression_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(1000, 2, 100)
    values = targets + generator.normal(0, 1, 100)
    found = validation_metrics("regression", values[:, None], targets)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, values))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, values))
    assert found["r2"] == pytest.approx(sk.r2_score(targets, values))
    assert validation_metrics("regression", values[:, None], np.ones(100))["r2"] == 0.0


def test_the_calibration_error_of_a_hand_made_case() -> None:
    """Ten rows sure by 0.9 of which six are right, ten sure by 0.6 of which all are: (0.3 + 0.4) / 2."""
    logits = np.log([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 6 + [1] * 4 + [0] * 10)
    assert expected_calibration_error(logits, targets) == pytest.approx(0.35, abs=1e-6)
    # Small logits look like probabilities to torchmetrics, which would then take no softmax.
    assert expected_calibration_error(np.array([[0.2, 0.8]] * 4), np.ones(4, int)) == pytest.approx(
        1 - float(softmax([0.2, 0.8])[1]), abs=1e-6
    )
