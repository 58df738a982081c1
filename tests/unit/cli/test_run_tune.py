"""tokka tune from the command line, on the real steps and a tiny encoder: exit codes, the diff, what is written."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tokka.cli.main import call
from tokka.data.sample import make_sample

ROOT = Path(__file__).parents[3]
FEW = ["--search", "epochs=1:2", "--search", "learning_rate=1e-3:2e-2", "--search", "batch_size=16:16"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose present learning rate is far too small: anything is better."""
    root = tmp_path_factory.mktemp("project")
    make_tiny_base(root / "base")
    make_sample(root / "sample.csv", rows=700, seed=7)
    (root / "params.yaml").write_text(
        "# tiny\ntask: {text: text, target: label}\n"
        f"data: {{source: {root / 'sample.csv'}}}\n"
        f"validation: {{suite: {ROOT / 'data/expectations/messages.json'}}}\n"
        "preprocessing: {minimum_class_size: 5}\n"
        f"model: {{base: {root / 'base'}, max_tokens: 32}}\n"
        "finetuning:            # the section\n"
        "  epochs: 1            # few\n"
        "  batch_size: 16\n"
        "  learning_rate: 0.0000001  # far too small\n"
        "  head_warm_start: false\n"
        "  threads: 1\n"
    )
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKKA_ROOT", str(project))
    monkeypatch.setenv("TOKKA_HOME", str(project / "home"))
    for name in ("MLFLOW_TRACKING_URI", "TOKKA_PORT", "TOKKA_REMOTE", "TOKKA_RECORD_URL"):
        monkeypatch.delenv(name, raising=False)
    return project


def tune(here: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert call(["tune", "--params", str(here / "params.yaml"), *FEW, *options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_a_search_is_continued_and_writes_a_diff_that_git_takes(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = (here / "params.yaml").read_text()
    first = tune(here, capsys, "--trials", "2", "--dry-run")
    assert (here / "params.yaml").read_text() == before
    assert not first["written"]
    second = tune(here, capsys, "--trials", "4")
    assert second["study"] == first["study"]
    assert second["mlflow_run"] == first["mlflow_run"]
    assert second["trials"][:2] == first["trials"]
    assert len(second["trials"]) == 4
    assert second["trials"][0]["present"]
    assert second["written"]
    assert second["improvement"] > second["standard_error"]
    after = (here / "params.yaml").read_text()
    assert "# far too small" in after and "# the section" in after and "# few" in after
    assert f"learning_rate: {second['best']['learning_rate']:.10f}".rstrip("0") in after
    (tmp_path / "params.yaml").write_text(before)
    subprocess.run(["git", "apply", "-"], input=second["diff"], text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "params.yaml").read_text() == after


def test_nothing_better_is_nothing_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / "params.yaml").read_text()
    found = tune(here, capsys, "--trials", "1", "--set", "finetuning.seed=11")
    assert "nothing to write" in found["verdict"]
    assert found["diff"] == ""
    assert not found["written"]
    assert (here / "params.yaml").read_text() == before


def test_ctrl_c_is_130_and_leaves_a_study_to_go_on_with(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokka.training import train as training

    original, calls = training.train, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    options = ["--params", str(here / "params.yaml"), *FEW, "--set", "finetuning.seed=12", "--trials", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", interrupted)
        assert call(["tune", *options]) == 130
    capsys.readouterr()
    found = tune(here, capsys, "--set", "finetuning.seed=12", "--trials", "2", "--dry-run")
    assert [trial["number"] for trial in found["trials"]] == [0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--search", "seed=1:2"], "is not searched"),
        (["--search", "epochs=3:1"], "low:high"),
        (["--set", "finetuning.strategy=frozen"], "nothing to tune"),
        (["--trials", "0"], "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_2(here: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    assert call(["tune", "--params", str(here / "params.yaml"), *options]) == 2
    assert words in capsys.readouterr().err
