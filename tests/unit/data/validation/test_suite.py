"""The suite of expectations: one that could stop nothing is refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.corpus import params_for
from tests.unit.data.validation.test_validation import SUITE, changed_suite
from tokka.data.validation import suite as suites
from tokka.errors import Refused, UsageError

COLUMNS = ["text", "target"]


def empty(tree: dict[str, Any]) -> None:
    tree["expectations"] = []


def no_row_count(tree: dict[str, Any]) -> None:
    tree["expectations"] = [entry for entry in tree["expectations"] if entry["type"] != suites.ROW_COUNT]


def only_warnings(tree: dict[str, Any]) -> None:
    for entry in tree["expectations"]:
        entry["severity"] = "warning"


def no_target(tree: dict[str, Any]) -> None:
    tree["expectations"] = [entry for entry in tree["expectations"] if entry["kwargs"].get("column") != "target"]


@pytest.mark.parametrize("change", [empty, no_row_count, only_warnings, no_target])
def test_suite_that_could_stop_nothing_is_refused(tmp_path: Path, change: Any) -> None:
    found = suites.load(changed_suite(tmp_path, change))
    with pytest.raises(Refused) as error:
        suites.applicable(found, params_for("x.csv"), COLUMNS)
    assert "\n" not in error.value.message


def test_nothing_critical_in_params_is_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"validation\.critical is empty"):
        suites.applicable(suites.load(SUITE), params_for("x.csv", validation={"critical": []}), COLUMNS)


@pytest.mark.parametrize("content", ["", "[]", '{"expectations": [{}]}', '{"expectations": 1}'])
def test_suite_that_is_none_is_wrong_use(tmp_path: Path, content: str) -> None:
    (tmp_path / "suite.json").write_text(content)
    with pytest.raises(UsageError, match=r"suite\.json"):
        suites.load(tmp_path / "suite.json")


def test_severity_must_exist(tmp_path: Path) -> None:
    path = changed_suite(tmp_path, lambda tree: tree["expectations"][0].update(severity="deadly"))
    with pytest.raises(UsageError, match="'deadly', allowed are critical, warning, info"):
        suites.load(path)


def test_the_task_chooses_its_expectations() -> None:
    found = suites.load(SUITE)
    regression = params_for("x.csv", task={"type": "regression", "target": "score"})
    notes = [str(entry.meta["notes"]) for entry in suites.applicable(found, regression, COLUMNS)]
    assert "The target has more than one value" in notes
    assert not any("class" in note for note in notes)
    assert not any("time" in note for note in notes)
