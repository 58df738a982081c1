"""Docker engines that are not there, and images that they do not have."""

import pytest

from tokka.errors import TokkaError
from tokka.runs.kubeflow import docker_options, require_image


def test_a_missing_engine_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(TokkaError) as raised:
        require_image("tokka/pipeline:0.1.0")
    assert "no Docker engine answers" in raised.value.message
    assert "--runner docker" in raised.value.hint


def test_a_task_may_write_its_home_alone(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("TOKKA_RECORD_URL", "sqlite:////home/record.db")
    monkeypatch.setenv("SECRET_OF_ANOTHER_PROGRAM", "x")
    told = docker_options(tmp_path / "project", tmp_path / "home")
    assert [(mount["Target"], mount["ReadOnly"]) for mount in told["mounts"]] == [
        (f"{tmp_path}/project", True), (f"{tmp_path}/home", False),
    ]  # fmt: skip
    assert told["read_only"] and told["cap_drop"] == ["ALL"]
    assert told["environment"]["TOKKA_RECORD_URL"] == "sqlite:////home/record.db"
    assert "SECRET_OF_ANOTHER_PROGRAM" not in told["environment"]
