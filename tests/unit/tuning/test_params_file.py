"""params.yaml is edited in place: nothing but the values changes, and the diff is one that git takes."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tokka.errors import UsageError
from tokka.params import load_params
from tokka.tuning.params_file import edited, unified_diff

PARAMS = Path(__file__).parents[3] / "params.yaml"
VALUES = {
    "finetuning.learning_rate": 0.000123,
    "finetuning.epochs": 7,
    "finetuning.batch_size": 32,
    "finetuning.weight_decay": 0.0,
    "finetuning.augmentation.word_dropout": 0.075,
}


def test_only_the_values_change_and_every_comment_stays() -> None:
    before = PARAMS.read_text()
    after = edited(before, VALUES)
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    changed = [(one, two) for one, two in zip(old, new, strict=True) if one != two]
    assert len(changed) == len(VALUES)
    for one, two in changed:
        assert one.partition("#")[1:] == two.partition("#")[1:]
        assert one.partition(":")[0] == two.partition(":")[0]
        # A comment stays in its column.
        assert one.find("#") == two.find("#")


def test_the_file_means_the_new_values(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(edited(PARAMS.read_text(), VALUES))
    found = load_params(tmp_path / "params.yaml").finetuning
    assert (found.learning_rate, found.epochs, found.batch_size, found.weight_decay) == (0.000123, 7, 32, 0.0)
    assert found.augmentation.word_dropout == 0.075
    assert found.model_copy(update={}).lora == load_params(PARAMS).finetuning.lora


def test_git_applies_the_diff(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    after = edited(PARAMS.read_text(), VALUES)
    diff = unified_diff(PARAMS.read_text(), after, "params.yaml")
    run = subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "params.yaml").read_text() == after
    assert unified_diff(after, after, "params.yaml") == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("finetuning:\n  seed: 1 # a comment\n\nexport: {}\n", "finetuning.epochs"),
        ("finetuning:\n    epochs: 2\nexport:\n    epochs: 9\n", "finetuning.epochs"),
        ("export:\n  epochs: 9\nfinetuning: # all of it\n  # epochs: 3\n  epochs: 2", "finetuning.epochs"),
        ("finetuning:\n    epochs: 2\n", "finetuning.augmentation.word_dropout"),
        ("finetuning:\n  augmentation:\n    typos: 0.1\n  epochs: 4\n", "finetuning.augmentation.word_dropout"),
        ("finetuning: {epochs: 3}\n", "finetuning.epochs"),
        ("finetuning: {epochs: 3} # in one line\n", "finetuning.augmentation.word_dropout"),
        ("finetuning:\n", "finetuning.epochs"),
    ],
)
def test_a_key_is_found_where_it_belongs_or_added(text: str, name: str) -> None:
    after = yaml.safe_load(edited(text, {name: 7}))
    expected = yaml.safe_load(text)
    expected["finetuning"] = expected["finetuning"] or {}
    place = expected
    *parts, last = name.split(".")
    for part in parts:
        place = place.setdefault(part, {})
    place[last] = 7
    assert after == expected


def test_a_new_key_adds_its_lines_and_moves_no_other() -> None:
    before = "finetuning:\n    seed: 1  # a comment\n\n# of the export\nexport: {}\n"
    after = edited(before, {"finetuning.learning_rate": 0.00001})
    assert after == before.replace("    seed", "    learning_rate: 0.00001\n    seed")


@pytest.mark.parametrize("text", ["task:\n  text: text\n", "", "finetuning: [\n"])
def test_what_cannot_be_edited_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"no section|cannot be read"):
        edited(text, {"finetuning.epochs": 4})
