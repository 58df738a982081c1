"""kill -9 anywhere between logging and registering: the same command again makes one run and one version of it."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.unit.registry.conftest import PASS, PROVENANCE, judged, make_evidence, make_model, make_settings
from tokka.params import Params
from tokka.registry import connection, entities, model_cache, publish
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings

KILLS = 8
CONTEXT = multiprocessing.get_context("fork")


def publish_all(settings: Settings, params: Params, folder: Path) -> str:
    run_id = publish.log_evaluation(folder / "evidence", folder / "model", params, settings, "k1", PROVENANCE)
    (folder / "gate").mkdir(exist_ok=True)
    publish.record_decision(run_id, PASS, folder / "gate", params, settings)
    told = judged(run_id, folder / "evidence", folder / "model")
    return publish.register_candidate(run_id, params, settings, told)[0]


@pytest.mark.slow
def test_killed_at_any_moment_it_converges(params: Params, tmp_path: Path) -> None:
    """Kills fall into making the database, logging, uploading, deciding, registering, and naming the challenger."""
    settings = make_settings(tmp_path / "home")
    make_evidence(tmp_path / "evidence")
    make_model(tmp_path / "model", weights=os.urandom(8_000_000))
    # Imported before the fork, and no database opened: the children start at once and share no connection.
    connection.import_mlflow()
    chance, killed = random.Random(7), 0
    for limit in np.linspace(0.1, 2.5, KILLS):
        child = CONTEXT.Process(target=publish_all, args=(settings, params, tmp_path))
        child.start()
        child.join(chance.uniform(0.0, limit))
        if child.is_alive():
            os.kill(child.pid or 0, signal.SIGKILL)
            killed += 1
        child.join()
    assert killed >= KILLS // 3
    assert publish_all(settings, params, tmp_path) == "1"
    registry = Registry(settings, params.registry.model)
    assert [version.version for version in registry.versions()] == ["1"]
    version = registry.version("1")
    assert version.tags[entities.KEY] == "k1"
    assert version.tags[entities.GATE] == "pass"
    assert version.aliases == ("challenger",)
    assert model_cache.verified_copy(settings, version.digest) is not None
    assert publish_all(settings, params, tmp_path) == "1"
