"""What `tokka tune` writes when a search has ended: against what the file says, never at the price of the search."""

from pathlib import Path
from typing import Any

import pytest

from tokka.params import load_params
from tokka.tuning.search import Trial
from tokka.tuning.search_space import present_values
from tokka.tuning.tune import decide


class Ended:
    """A search whose second trial is much better than the first."""

    name, metric = "study", "accuracy"

    def __init__(self, present: dict[str, float], best: dict[str, float]) -> None:
        self._trials = [
            Trial(0, "complete", 0.5, 0.01, present, [], present=True),
            Trial(1, "complete", 0.9, 0.01, best, [], present=False),
        ]

    def trials(self) -> list[Trial]:
        return self._trials

    def present(self) -> Trial:
        return self._trials[0]

    def best(self) -> Trial:
        return self._trials[1]

    def gain(self, trial: Trial, over: Trial) -> float:
        return (trial.value or 0) - (over.value or 0)


def ended(path: Path, text: str, overrides: list[str], **better: Any) -> dict[str, Any]:
    path.write_text(text)
    present = present_values(load_params(path, overrides).finetuning)
    return decide(Ended(present, {**present, **better}), path, dry_run=False)


def test_an_overridden_value_that_the_best_trial_kept_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    outcome = ended(path, "finetuning:\n  epochs: 2\n", ["finetuning.epochs=5"], batch_size=32)
    assert outcome["written"]
    found = load_params(path).finetuning
    assert (found.epochs, found.batch_size) == (5, 32)
    assert "seed" not in path.read_text() and "weight_decay" not in path.read_text()


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("task: {text: text}\n", [], "no section for finetuning.batch_size; write by hand: finetuning.batch_size: 32"),
        ("finetuning:\n  epochs: 0\n", ["finetuning.epochs=5"], "epochs: 5, finetuning.batch_size: 32"),
    ],
)
def test_a_file_that_cannot_be_edited_costs_no_search(
    tmp_path: Path, text: str, overrides: list[str], words: str
) -> None:
    outcome = ended(tmp_path / "params.yaml", text, overrides, batch_size=32)
    assert words in outcome["verdict"]
    assert (outcome["written"], outcome["diff"], len(outcome["trials"])) == (False, "", 2)
    assert outcome["improvement"] == pytest.approx(0.4)
    assert (tmp_path / "params.yaml").read_text() == text


def test_a_section_in_one_line_is_written_in_one_line(tmp_path: Path) -> None:
    assert ended(tmp_path / "params.yaml", "finetuning: {epochs: 2}\n", [], batch_size=32)["written"]
    assert (tmp_path / "params.yaml").read_text() == "finetuning: {batch_size: 32, epochs: 2}\n"
