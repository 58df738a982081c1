"""Who completes an evaluation: the stack, by a request, in a run of this machine; else the task itself."""

import json
from types import SimpleNamespace

import pytest

from tokka import files, pending
from tokka.errors import Refused, TokkaError
from tokka.settings import Settings
from tokka.steps import complete_evaluation as step


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})


@pytest.fixture
def request_of(tmp_path):
    def make(name):
        folders = {part: tmp_path / name / part for part in ("prepared", "model", "evidence")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        files.write_json(folders["evidence"] / "evaluation.json", {"champion": None})
        (folders["evidence"] / "report.html").write_text("first")
        return step.Request(run_id=name, params={}, report=tmp_path / name / "report", **folders)

    return make


@pytest.fixture
def measured(monkeypatch):
    """What was completed; `measured.problem` makes the registry fail."""

    class Measured(list):
        problem = None

    found = Measured()

    def complete(folder, prepared, candidate, champion, params, cache, publish):
        (folder / "report.html").write_text("completed")
        publish(folder)
        found.append(prepared.parent.name)

    def publish(run_id, evidence, params, settings):
        if found.problem:
            raise found.problem

    def read_model_config(folder):
        if (folder / "altered").exists():
            raise Refused("the model was altered")
        return SimpleNamespace(precision="32")

    monkeypatch.setattr("tokka.model.folder.read_model_config", read_model_config)
    monkeypatch.setattr("tokka.evaluation.complete.complete", complete)
    monkeypatch.setattr("tokka.registry.publish.publish_details", publish)
    return found


def test_in_a_run_of_this_machine_the_stack_gets_a_request(settings, request_of, measured, monkeypatch, tmp_path):
    monkeypatch.setenv(pending.RUN_FOLDER, str(tmp_path))
    step.run(request_of("one"), settings, tmp_path / "out.html")
    assert measured == []
    (path,) = pending.waiting(settings.home)
    assert json.loads(path.read_text())["run_id"] == "one"
    step.complete_waiting(settings)
    assert measured == ["one"]
    assert (tmp_path / "one" / "report").read_text() == "completed"
    assert pending.waiting(settings.home) == []


def test_elsewhere_the_task_measures_and_leaves_its_input_as_it_was(
    settings, request_of, measured, monkeypatch, tmp_path
):
    monkeypatch.delenv(pending.RUN_FOLDER, raising=False)
    step.run(request_of("one"), settings, tmp_path / "out.html")
    assert measured == ["one"]
    assert (tmp_path / "out.html").read_text() == "completed"
    assert (tmp_path / "one" / "evidence" / "report.html").read_text() == "first"
    assert pending.waiting(settings.home) == []


def test_a_request_stays_until_it_was_published_and_goes_when_its_folders_are_gone(
    settings, request_of, measured, monkeypatch, tmp_path
):
    monkeypatch.setenv(pending.RUN_FOLDER, str(tmp_path))
    step.run(request_of("one"), settings, tmp_path)
    measured.problem = TokkaError("MLflow does not answer")
    with pytest.raises(TokkaError):
        step.complete_waiting(settings)
    assert len(pending.waiting(settings.home)) == 1
    (tmp_path / "one" / "model").rmdir()
    step.complete_waiting(settings)
    assert pending.waiting(settings.home) == []


def test_a_model_that_was_altered_is_given_up(settings, request_of, measured, monkeypatch, tmp_path):
    monkeypatch.setenv(pending.RUN_FOLDER, str(tmp_path))
    step.run(request_of("one"), settings, tmp_path)
    (tmp_path / "one" / "model" / "altered").touch()
    step.complete_waiting(settings)
    assert (measured, pending.waiting(settings.home)) == ([], [])
