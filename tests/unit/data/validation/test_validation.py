import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.corpus import ROOT, Write, csv_of, params_for
from tokka.data import rows
from tokka.data.validation import suite as suites
from tokka.data.validation import validation
from tokka.errors import Refused, TokkaError, UsageError
from tokka.settings import Settings

SUITE = ROOT / "data/expectations/messages.json"
COLUMNS = ["text", "target"]


def changed_suite(tmp_path: Path, change: Any) -> Path:
    tree = json.loads(SUITE.read_text())
    change(tree)
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(tree))
    return path


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


@pytest.mark.slow
def test_valid_rows_pass_and_are_not_validated_twice(write: Write, tmp_path: Path, settings: Settings) -> None:
    params = params_for(write("a.csv", csv_of(200) + "broken\n"))
    first = validation.validate_source(params, settings, tmp_path / "a")
    assert (first["verdict"], first["rows"], first["quarantined"], first["cached"]) == ("pass", 200, 1, False)
    assert rows.load(tmp_path / "a/rows.parquet").num_rows == 200
    assert rows.load(tmp_path / "a/test.parquet").num_rows == 0
    assert json.loads((tmp_path / "a/quarantine.jsonl").read_text())["line"] == 202
    second = validation.validate_source(params, settings, tmp_path / "b")
    assert second["cached"]
    assert (tmp_path / "b/docs.html").read_bytes() == (tmp_path / "a/docs.html").read_bytes()


@pytest.mark.slow
def test_critical_failure_stops_after_the_docs_are_written(write: Write, tmp_path: Path, settings: Settings) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    lines = csv_of(60).splitlines() + ["?! ?!,pay", f"{hostile},pay"] * 10
    with pytest.raises(Refused) as error:
        validation.validate_source(params_for(write("a.csv", "\n".join(lines) + "\n")), settings, tmp_path / "out")
    assert "expect_column_values_to_match_regex on 'text'" in error.value.message
    assert "10 rows (line 62, 64, 66, 68, 70)" in error.value.message
    page = (tmp_path / "out/docs.html").read_text()
    assert "line 62: <q>?! ?!</q>" in page
    assert "<script" not in page
    assert "<link" not in page
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    result = json.loads((tmp_path / "out/validation.json").read_text())
    assert result["verdict"] == "refuse"
    assert not (settings.home / "store").exists()


@pytest.mark.slow
def test_failed_warning_warns_and_goes_on(write: Write, tmp_path: Path, settings: Settings) -> None:
    lines = csv_of(60).splitlines() + ["<p>hello</p> " + str(number) + ",pay" for number in range(20)]
    result = validation.validate_source(params_for(write("a.csv", "\n".join(lines) + "\n")), settings, tmp_path / "out")
    assert (result["verdict"], result["warnings"]) == ("pass", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (csv_of(60, ("pay",)), "unique_value_count"),
        (csv_of(4), "table_row_count"),
        ("text,label\n" + "".join(f"text {n},label {n}\n" for n in range(80)), "proportion_of_unique"),
    ],
)
def test_data_that_nothing_can_be_learned_from(
    write: Write, tmp_path: Path, settings: Settings, content: str, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        validation.validate_source(params_for(write("a.csv", content)), settings, tmp_path / "out")


@pytest.mark.slow
def test_regression_with_feedback_and_test_file(write: Write, tmp_path: Path, settings: Settings) -> None:
    task = {"type": "regression", "target": "score", "slices": ["channel"]}
    scored = "text,score,channel\n" + "".join(f"text number {n},{n % 7},mail\n" for n in range(100))
    params = params_for(write("a.csv", scored), task=task, data={"test": str(write("test.csv", scored[:400] + "\n"))})
    feedback = write("feedback.jsonl", '{"text": "new words", "value": 3.5}\n')
    result = validation.validate_source(params, settings, tmp_path / "out", feedback=feedback)
    table = rows.load(tmp_path / "out/rows.parquet").to_pylist()
    assert table[-1] == {"text": "new words", "target": 3.5, "slice_channel": "unknown"}
    assert result["files"]["feedback"]["read"] == 1
    assert rows.load(tmp_path / "out/test.parquet").num_rows > 10


@pytest.mark.slow
def test_unknown_expectation_is_wrong_use(write: Write, tmp_path: Path, settings: Settings) -> None:
    def unknown(tree: dict[str, Any]) -> None:
        tree["expectations"].append({"type": "expect_miracles", "kwargs": {}})

    params = params_for(write("a.csv", csv_of(60)), validation={"suite": str(changed_suite(tmp_path, unknown))})
    with pytest.raises(UsageError, match="not valid"):
        validation.validate_source(params, settings, tmp_path / "out")


@pytest.mark.slow
def test_expectation_about_a_column_that_is_not_there_fails(write: Write, tmp_path: Path, settings: Settings) -> None:
    def absent(tree: dict[str, Any]) -> None:
        tree["expectations"].append({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "mood"}})

    params = params_for(write("a.csv", csv_of(60)), validation={"suite": str(changed_suite(tmp_path, absent))})
    with pytest.raises(Refused, match="on 'mood'"):
        validation.validate_source(params, settings, tmp_path / "out")


def test_missing_source_and_empty_source(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="does not exist"):
        validation.validate_source(params_for("nowhere.csv"), settings, tmp_path / "out")
    with pytest.raises(UsageError, match=r"data\.source is empty"):
        validation.validate_source(params_for(""), settings, tmp_path / "out")
