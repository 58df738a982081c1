"""Forms of one model on the same rows, calibration before and after, and how the page shows both."""

import shutil

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from tests.unit.evaluation.conftest import make_specialist
from tests.unit.evaluation.metrics import scikit
from tokka import files
from tokka.data.preparation.prepared import load
from tokka.evaluation.metrics import resampling, temperature
from tokka.evaluation.metrics.test_set import open_test
from tokka.evaluation.models import forms, scoring
from tokka.evaluation.report import sections
from tokka.model.folder import CONFIG, write_model_config
from tokka.training.calibration import expected_calibration_error
from tokka.training.onnx_forms import write_int8


def with_int8(source, target, serve="int8"):
    """A copy of a specialist with its int8 form, which it serves."""
    shutil.copytree(source, target)
    write_int8(target / "model.onnx", target / "model.int8.onnx")
    config = files.read_json(target / CONFIG)
    del config["seal"], config["files"], config["format"]
    write_model_config(target, {**config, "serve": serve})
    return target


def measured(folder, prepared, params):
    data, model = load(prepared), scoring.open_model("candidate", "", folder)
    test = open_test(data, model.predictor.labels, 20)
    scores = test.align(model.predictor.predict(test.texts, test.pairs).scores, model.predictor.labels)
    return forms.compare_forms(model, test, {model.predictor.form: scores}, params), test, model


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_int8_is_compared_with_fp32_row_by_row(task, base, prepared, prepared_regression, params, tmp_path):
    rows = prepared if task == "classification" else prepared_regression
    # A head that was spoilt: without any mistake there would be nothing to tell apart.
    folder = with_int8(make_specialist(tmp_path / "plain", base, rows, blur=0.4), tmp_path / "model")
    found, test, _ = measured(folder, rows, params(task))
    reference, small = found["rows"]
    assert [reference["form"], small["form"]] == ["fp32", "int8"]
    assert reference["against"] is None
    assert small["size_mb"] < reference["size_mb"]
    against = small["against"]
    assert against["low"] <= against["difference"] <= against["high"]
    assert 0 < against["maximum_difference"] < 0.5
    gap = small["quality"]["value"] - reference["quality"]["value"]
    assert against["difference"] == pytest.approx(gap if task == "classification" else -gap, abs=1e-6)
    if task == "classification":
        answers = [scoring.open_model("", "", folder, name).predictor.predict(test.texts) for name in
                   ("fp32", "int8")]  # fmt: skip
        right = [np.array(answer.labels) == np.array(test.table["target"].to_pylist()) for answer in answers]
        better, worse = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
        wanted = binomtest(better, better + worse, 0.5).pvalue if better + worse else 1.0
        assert against["p_value"] == pytest.approx(wanted)
        assert against["disagreement"] == pytest.approx(
            np.mean(np.array(answers[0].labels) != np.array(answers[1].labels))
        )
    shown = sections.forms_view({"forms": found})
    assert shown["others"] == ["fp32"]
    assert shown["rows"][1]["change"]


def test_one_form_has_nothing_to_be_compared_with(specialist, prepared, params):
    assert measured(specialist, prepared, params())[0] is None
    assert sections.forms_view({"forms": None}) is None


def test_the_temperature_is_taken_back_exactly_and_moves_the_calibration_only(params):
    generator = np.random.default_rng(0)
    target = generator.integers(0, 4, 500)
    logits = 4.0 * (generator.normal(size=(500, 4)) + np.eye(4)[target])
    served = softmax(logits / 2.5, axis=1)
    assert temperature.uncalibrated(served, 2.5) == pytest.approx(softmax(logits, axis=1))
    found = temperature.before_and_after(target, served, 2.5, params())
    assert found["before"]["ece"]["value"] == pytest.approx(expected_calibration_error(logits, target), abs=1e-6)
    assert found["after"]["ece"]["value"] == pytest.approx(scikit.classification(target, served)["ece"], abs=1e-6)
    assert found["after"]["ece"]["value"] < found["before"]["ece"]["low"]
    assert sections.temperature_rows({"temperature": found})[0]["name"].startswith("Calibration")


def test_the_calibration_error_with_intervals_is_torchmetrics_own():
    """Resampling needs weights, which torchmetrics has none of: the bins must be the same."""
    generator = np.random.default_rng(3)
    target = generator.integers(0, 7, 2000)
    logits = generator.normal(size=(2000, 7)) + 2 * np.eye(7)[target]
    statistics = resampling.classification_statistics(target, softmax(logits, axis=1), ranking=False)
    found = statistics(np.ones((1, len(target))))["ece"][0]
    assert found == pytest.approx(expected_calibration_error(logits, target), abs=1e-6)
