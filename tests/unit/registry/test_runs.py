"""A search in MLflow: one run per study, a child per trial with params and metrics over epochs, each once."""

import pytest

from tests.unit.registry.conftest import make_settings
from tokka.params import Params
from tokka.registry.mlflow_client import Registry
from tokka.registry.runs import TRIAL
from tokka.settings import Settings

CURVES = [
    {"epoch": 1.0, "step": 7.0, "validation_accuracy": 0.5},
    {"epoch": 2.0, "step": 14.0, "validation_accuracy": 0.7},
]


@pytest.fixture
def registry(settings: Settings, params: Params) -> Registry:
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    return registry


def log(registry: Registry, study: str, number: int, state: str = "complete") -> str:
    values, metrics = {"learning_rate": 3e-4, "augmentation.word_dropout": 0.1}, {"validation_accuracy": 0.71}
    with registry.search(study) as runs:
        return runs.trial(number, values=values, curves=CURVES, metrics=metrics, state=state)


def test_trials_are_children_with_params_and_metrics_by_step(registry: Registry) -> None:
    run_id = log(registry, "study-a", 0)
    child = registry.run(run_id)
    with registry.search("study-a") as runs:
        parent = runs.finish({"tokka.verdict": "nothing to write"})
    assert child.tags["mlflow.parentRunId"] == parent
    assert child.params == {"finetuning.learning_rate": "0.0003", "finetuning.augmentation.word_dropout": "0.1"}
    history = registry._client.get_metric_history(run_id, "validation_accuracy")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.71), (7, 0.5), (14, 0.7)]
    assert child.status == registry.run(parent).status == "FINISHED"
    assert registry.run(parent).tags["tokka.verdict"] == "nothing to write"


def test_a_trial_is_logged_once_and_studies_stay_apart(registry: Registry) -> None:
    first, again = log(registry, "study-b", 0), log(registry, "study-b", 0)
    other, elsewhere = log(registry, "study-b", 1, state="failed"), log(registry, "study-c", 0)
    assert first == again
    assert len({first, other, elsewhere}) == 3
    assert registry.run(other).status == "FAILED"
    assert registry.run(elsewhere).tags[TRIAL] == "study-c-0"
    assert registry.run(first).tags["mlflow.parentRunId"] != registry.run(elsewhere).tags["mlflow.parentRunId"]


def test_settings_of_another_home_are_another_place(registry: Registry, tmp_path) -> None:
    aside = Registry(make_settings(tmp_path), "helpdesk")
    aside.prepare()
    run_id = log(aside, "study-b", 0)
    assert aside.run(run_id).status == "FINISHED"
