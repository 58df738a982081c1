"""A real MLflow on SQLite: one run per key and content, one version per run, whatever is repeated or raced."""

import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from tests.unit.registry.conftest import make_evidence, make_model, make_settings
from tokka.errors import TokkaError, UsageError
from tokka.params import Params
from tokka.registry import entities
from tokka.registry.entities import Dataset
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings

DATASET = Dataset("messages.csv", "d" * 64, "messages.csv", 900)


@pytest.fixture
def registry(settings: Settings, params: Params) -> Registry:
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    return registry


def log(
    registry: Registry, folder: Path, key: str = "k1", digest: str = "a" * 64, champion: str = "none", **metrics: float
) -> str:
    folder.mkdir()
    return registry.log_run(
        key,
        params={"finetuning/epochs": 6, "finetuning/learning_rate": 3e-4},
        metrics={"candidate/accuracy": 0.94, **metrics},
        tags={entities.MODEL_DIGEST: digest, entities.CHAMPION: champion},
        folder_evidence=make_evidence(folder / "evidence"),
        folder_model=make_model(folder / "model"),
        dataset=DATASET,
    )


def test_a_run_holds_everything(registry: Registry, tmp_path: Path) -> None:
    run = registry.run(log(registry, tmp_path / "a", not_a_number=float("nan")))
    assert run.status == "FINISHED"
    assert run.params == {"finetuning/epochs": "6", "finetuning/learning_rate": "0.0003"}
    assert run.metrics == {"candidate/accuracy": 0.94}
    assert run.tags["tokka.metrics_not_finite"] == "not_a_number"
    dataset = registry._client.get_run(run.run_id).inputs.dataset_inputs[0]
    assert (dataset.dataset.name, dataset.dataset.digest) == ("messages.csv", "d" * 32)
    registry.download_artifacts(run.run_id, entities.EVIDENCE_FOLDER, tmp_path / "evidence")
    assert (tmp_path / "evidence" / "evaluation.json").is_file()


def test_the_same_key_and_content_is_the_same_run(registry: Registry, tmp_path: Path) -> None:
    first = log(registry, tmp_path / "a")
    registry.tag_run(first, {entities.GATE: "pass"})
    assert log(registry, tmp_path / "b") == first


def test_a_run_cut_short_is_resumed(registry: Registry, tmp_path: Path) -> None:
    first = log(registry, tmp_path / "a")
    registry._client.delete_tag(first, entities.LOGGED)
    with pytest.raises(TokkaError, match="cut short"):
        registry.register(first, description="", tags={})
    assert log(registry, tmp_path / "b") == first
    assert registry.register(first, description="", tags={}) == "1"


def test_other_content_under_the_same_key_loses_the_verdict_of_the_first(registry: Registry, tmp_path: Path) -> None:
    first = log(registry, tmp_path / "a")
    registry.tag_run(first, {entities.GATE: "pass"})
    second = log(registry, tmp_path / "b", digest="b" * 64)
    assert second != first
    assert entities.GATE not in registry.run(second).tags
    assert registry.run(first).tags[entities.SUPERSEDED] == "k1"
    assert log(registry, tmp_path / "c", digest="b" * 64) == second


def test_a_run_with_a_version_stands(registry: Registry, tmp_path: Path) -> None:
    first = log(registry, tmp_path / "a")
    registry.register(first, description="card", tags={entities.KEY: "k1"})
    assert log(registry, tmp_path / "b", digest="b" * 64) == first


def test_a_run_with_a_version_gives_way_to_one_that_compares_with_another_champion(
    registry: Registry, tmp_path: Path
) -> None:
    first = log(registry, tmp_path / "a", champion="c" * 64)
    assert registry.register(first, description="card", tags={}) == "1"
    second = log(registry, tmp_path / "b", digest="b" * 64, champion="e" * 64)
    assert registry.register(second, description="card", tags={}) == "2"
    assert registry.version("1").run_id == first
    assert log(registry, tmp_path / "c", digest="b" * 64, champion="e" * 64) == second


def test_one_version_per_run(registry: Registry, tmp_path: Path) -> None:
    run = log(registry, tmp_path / "a")
    tags = {entities.KEY: "k1", entities.MODEL_DIGEST: "a" * 64}
    assert registry.register(run, description="card", tags=tags) == "1"
    assert registry.register(run, description="card", tags=tags) == "1"
    other = log(registry, tmp_path / "b", key="k2")
    assert registry.register(other, description="card", tags={entities.KEY: "k2"}) == "2"
    assert [version.tags[entities.KEY] for version in registry.versions()] == ["k2", "k1"]
    found = registry.version("1")
    assert (found.run_id, found.digest, found.description) == (run, "a" * 64, "card")


def test_a_racer_on_another_machine_withdraws(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one registers between our look and our creation, which no lock of ours can prevent."""
    run = log(registry, tmp_path / "a")
    looked = registry.version_of
    answers = iter([None])
    monkeypatch.setattr(registry, "version_of", lambda run_id: next(answers, looked(run_id)))
    rival = Registry(registry.settings, registry.model)
    assert rival.register(run, description="", tags={}) == "1"
    assert registry.register(run, description="", tags={}) == "1"
    assert [version.version for version in registry.versions()] == ["1"]


def test_aliases(registry: Registry, tmp_path: Path) -> None:
    assert registry.aliases() == {}
    assert registry.versions() == []
    registry.register(log(registry, tmp_path / "a"), description="", tags={})
    registry.set_alias("champion", "1")
    registry.set_alias("previous", "1")
    assert registry.aliases() == {"champion": "1", "previous": "1"}
    assert registry.versions()[0].aliases == ("champion", "previous")
    assert registry.version("1").aliases == ("champion", "previous")
    registry.delete_alias("previous")
    registry.delete_alias("previous")
    assert registry.aliases() == {"champion": "1"}


def test_a_version_that_does_not_exist(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="version 7"):
        registry.version("7")
    with pytest.raises(UsageError, match="not a version number"):
        registry.version("../7")
    with pytest.raises(TokkaError, match="not an idempotency key"):
        log(registry, tmp_path / "a", key="' or 1=1")


def test_a_task_run_of_kfp_is_resumed_and_left_open(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry._client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    assert log(registry, tmp_path / "a") == task
    assert registry.run(task).status == "RUNNING"
    assert log(registry, tmp_path / "b") == task
    nested = log(registry, tmp_path / "c", key="k2")
    assert nested != task
    assert registry.run(nested).tags["mlflow.parentRunId"] == task


def test_no_empty_experiment_is_made_beside_that_of_kfp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    registry = Registry(make_settings(tmp_path), "helpdesk")
    registry.prepare()
    assert registry._client.get_experiment_by_name("helpdesk") is None


def test_a_parent_gets_a_nested_run(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = registry._client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_PARENT_RUN_ID", parent)
    nested = log(registry, tmp_path / "a", key="below-a-parent")
    assert registry.run(nested).tags["mlflow.parentRunId"] == parent
    assert registry._client.get_run(nested).info.experiment_id == "0"


def test_a_server_that_is_down_is_said_to_be_down_in_seconds(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = make_settings(tmp_path, MLFLOW_TRACKING_URI=f"http://user:secret@127.0.0.1:{port}")
    with pytest.raises(TokkaError, match="does not answer") as caught:
        Registry(settings, "helpdesk").prepare()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["./mlruns", "sqlite:///relative.db", "databricks"])
def test_an_unsupported_address_is_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not supported"):
        Registry(make_settings(tmp_path, MLFLOW_TRACKING_URI=uri), "helpdesk").prepare()


def test_a_broken_database_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(TokkaError, match="could not"):
        Registry(make_settings(tmp_path), "helpdesk").prepare()


def test_a_database_cut_short_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.new").write_bytes(b"half")
    registry = Registry(make_settings(tmp_path), "helpdesk")
    registry.prepare()
    assert registry.versions() == []


def prepare_and_register(home: str, number: int) -> tuple[str, str]:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    registry = Registry(make_settings(Path(home)), "race")
    registry.prepare()
    run = log(registry, Path(home) / f"racer-{number}")
    return run, registry.register(run, description="", tags={entities.KEY: "k1"})


def test_eight_processes_on_a_fresh_database_make_one_run_and_one_version(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(8) as pool:
        found = pool.starmap(prepare_and_register, [(str(tmp_path), number) for number in range(8)])
    assert len({run for run, _ in found}) == 1
    assert {version for _, version in found} == {"1"}
