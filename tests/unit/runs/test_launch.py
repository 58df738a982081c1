"""A run on this machine, on a pipeline of one task: what it leaves behind, however it ends."""

import os
import subprocess
import sys

import pytest

from tokka import pending
from tokka.errors import TokkaError
from tokka.pending import TEMPORARY
from tokka.runs import kubeflow
from tokka.runs.launch import Launch
from tokka.settings import Settings

PIPELINE = """
import sys
from kfp import compiler, dsl

@dsl.component(base_image="python", install_kfp_package=False)
def work(fails: bool):
    import pathlib, tempfile
    pathlib.Path(tempfile.mkdtemp(), "left").write_text("here")
    if fails:
        raise RuntimeError("broken")

@dsl.pipeline(name="retrain")
def retrain(fails: bool = False):
    work(fails=fails)

compiler.Compiler().compile(retrain, sys.argv[1])
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "write.py").write_text(PIPELINE)
    subprocess.run([sys.executable, folder / "write.py", folder / "retrain.yaml"], check=True)
    return folder / "retrain.yaml"


@pytest.fixture
def launch(tmp_path, pipeline, monkeypatch):
    def make(kept=(), **arguments):
        settings = Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})
        return Launch(settings, "retrain", arguments, kept=kept)

    (tmp_path / "system").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    monkeypatch.setattr(kubeflow, "compile_one", lambda name, root, folder: pipeline)
    return make


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_nothing_in_the_systems_temporary_folder(launch, tmp_path, fails):
    run = launch(fails=fails)
    if fails:
        with pytest.raises(TokkaError, match="could not start"):
            run.run(on_event=print)
    else:
        run.run(on_event=print)
    assert "Executing task" in run.log.read_text()
    assert list((tmp_path / "system").iterdir()) == []
    assert not (run.folder / TEMPORARY).exists()


def test_what_a_killed_run_left_goes_with_the_next(launch, tmp_path):
    killed = tmp_path / "home" / "runs" / "20260101-000000-1-retrain"
    (killed / TEMPORARY / "left").mkdir(parents=True)
    launch().run(on_event=print)
    assert killed.is_dir()
    assert not (killed / TEMPORARY).exists()


def test_the_folders_of_an_evaluation_that_is_to_be_completed_are_kept(launch, tmp_path):
    home = tmp_path / "home"
    runs = [home / "runs" / f"2026010{day}-000000-1-retrain" for day in range(1, 8)]
    for folder in runs:
        folder.mkdir(parents=True)
    (home / "evaluations").mkdir()
    (home / "evaluations" / "one.json").write_text(f'{{"evidence": "{runs[0]}/artifacts/evidence"}}')
    launch().run(on_event=print)
    assert [folder.is_dir() for folder in runs] == [True, False, False, True, True, True, True]


def test_the_folder_of_a_run_that_goes_on_or_that_made_what_serves_is_kept_however_old(launch, tmp_path):
    runs = [tmp_path / "home" / "runs" / f"2026010{day}-000000-1-retrain" for day in range(1, 9)]
    for folder in runs:
        (folder / TEMPORARY).mkdir(parents=True)
    (runs[1] / "events.jsonl").write_text('{"step": "finetune", "event": "result", "facts": {"digest": "abc"}}\n')
    held = pending.hold(runs[0])
    launch(kept=["abc"]).run(on_event=print)
    assert [folder.is_dir() for folder in runs] == [True, True, False, False, True, True, True, True]
    assert [(folder / TEMPORARY).is_dir() for folder in runs] == [True] + [False] * 7
    os.close(held)
