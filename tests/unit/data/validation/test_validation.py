import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.corpus import ROOT, Write, csv_of, params_for
from tokka.data import rows
from tokka.data.validation import validation
from tokka.errors import Refused, TokkaError, UsageError
from tokka.settings import Settings

SUITE = ROOT / "data/expectations/messages.json"


def changed_suite(tmp_path: Path, change: Any) -> Path:
    tree = json.loads(SUITE.read_text())
    change(tree)
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(tree))
    return path


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


def test_markup_in_rows_is_text_in_the_docs(write: Write, tmp_path: Path, settings: Settings) -> None:
    odd = '"<script>x</script><meta http-equiv=refresh content=0></table> $x ${y}",<b>none</b>\n'
    path = write("a.csv", csv_of(100) + "".join(odd.replace("$x", str(number)) for number in range(30)))
    validation.validate_source(params_for(path), settings, tmp_path / "out")
    page = (tmp_path / "out/docs.html").read_text(encoding="utf-8")
    assert "content=0" in page
    assert not [tag for tag in ("<meta http-equiv=refresh", "<script", "<b>none</b>") if tag in page]


@pytest.mark.slow
def test_batches_of_any_size_leave_the_same(
    write: Write, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = csv_of(90).splitlines()
    lines[40:40] = ["broken", "?! ?!,pay", "old,gone"]
    data = {"labels": {"gone": None, "ship": "send"}, "test": str(write("test.csv", csv_of(30)))}
    params = params_for(write("a.csv", "\n".join([*lines, "broken"]) + "\n"), data=data)
    feedback = write("feedback.jsonl", '{"text": "new words", "label": "ship"}\n{"text": "one more", "label": "pay"}\n')
    whole = validation.validate_source(params, settings, tmp_path / "whole", feedback)
    monkeypatch.setattr(rows, "BATCH_ROWS", 25)
    elsewhere = settings.model_copy(update={"home": tmp_path / "another"})
    assert validation.validate_source(params, elsewhere, tmp_path / "parts", feedback) == whole
    for name in ("rows", "test", "validation"):
        assert rows.load(tmp_path / f"parts/{name}.parquet") == rows.load(tmp_path / f"whole/{name}.parquet")
    quarantine = (tmp_path / "parts/quarantine.jsonl").read_text()
    assert quarantine == (tmp_path / "whole/quarantine.jsonl").read_text()
    assert [json.loads(line)["line"] for line in quarantine.splitlines()] == [41, 95]


def test_refused_rows_leave_the_quarantine_and_nothing_else(write: Write, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Refused, match="rows are quarantined"):
        validation.validate_source(params_for(write("a.csv", csv_of(5) + "one\n")), settings, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["quarantine.jsonl"]
