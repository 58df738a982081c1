"""What was left out on the way from files to splits, told with reasons and examples."""

from pathlib import Path

from tests.unit.data.corpus import Write, csv_of, params_for
from tokka import files
from tokka.data.preparation import dropped
from tokka.data.preparation.stage import prepare_validated
from tokka.data.validation.validation import validate_source
from tokka.settings import Settings

LABELS = ("pay", "ship", "login")


def prepared(write: Write, settings: Settings, out: Path, content: str, **data: object) -> tuple[dict, dict]:
    params = params_for(write("a.csv", content), data=data)
    validation = validate_source(params, settings, out / "rows")
    return validation, prepare_validated(out / "rows", params, out / "prepared")


def test_every_reason_is_told_with_an_example(write: Write, settings: Settings, tmp_path: Path) -> None:
    twice = "same text again here,pay\nsame text again here,pay\nsame text again here,ship\n"
    validation, summary = prepared(write, settings, tmp_path, csv_of(300) + twice + ",pay\nno label,\n")
    lines = [{"file": "a.csv", "line": 305, "reason": "empty 'text'", "raw": ",pay"}]
    found = dropped.of(validation, summary, lines)
    assert found["quarantined"] == 2
    assert found["reasons"] == {"empty 'text'": 1, "empty 'label'": 1}
    assert found["exact_duplicates"] == 2
    conflict = {"text": "same text again here", "targets": {"pay": 2, "ship": 1}, "kept": "pay"}
    assert found["conflicts"] == [conflict]
    words = dict(dropped.in_words(found))
    assert words["quarantined"] == "2 rows: empty 'label' (1), empty 'text' (1)"
    assert (
        words["conflicting labels"] == "1 texts with more than one, such as 'same text again here': pay (2), ship (1)"
    )
    assert dict(dropped.figures(found))["conflicting_targets"] == 1


def test_nothing_left_out_is_told_by_nothing(write: Write, settings: Settings, tmp_path: Path) -> None:
    validation, summary = prepared(write, settings, tmp_path, csv_of(60))
    assert dropped.in_words(dropped.of(validation, summary, [])) == []
    assert dropped.read(tmp_path / "prepared")["words"] == []


def test_labels_that_differ_in_case_alone_are_named(write: Write, settings: Settings, tmp_path: Path) -> None:
    _, summary = prepared(write, settings, tmp_path, csv_of(300, ("Pay", "pay", "ship")))
    assert summary["alike_labels"] == [["Pay", "pay"]]


def test_classes_are_renamed_merged_and_retired(write: Write, settings: Settings, tmp_path: Path) -> None:
    names = {"pay": "billing", "login": None, "typo": "x"}
    validation, summary = prepared(
        write, settings, tmp_path, csv_of(300, (*LABELS, "refund")), labels={**names, "refund": "billing"}
    )
    assert files.read_json(tmp_path / "prepared/labels.json") == {"labels": ["billing", "ship"]}
    found = dropped.of(validation, summary, [])
    assert found["renamed"] == {"pay → billing": 75, "refund → billing": 75}
    assert found["retired"] == {"login": 75}
    assert found["unused_labels"] == ["typo"]
    assert found["read"] == 300


def test_official_validation_rows_are_the_validation_rows(write: Write, settings: Settings, tmp_path: Path) -> None:
    given = "text,label\n" + "".join(f"quite another matter {number},{LABELS[number % 3]}\n" for number in range(30))
    _, summary = prepared(write, settings, tmp_path, csv_of(300), validation=str(write("v.csv", given)))
    assert summary["rows"]["validation"] == 30
    assert summary["rows"]["train"] + summary["rows"]["test"] == 300
