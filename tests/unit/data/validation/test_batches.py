"""A suite judged batch by batch says what it says of all rows at once."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.data.corpus import ROOT
from tokka.data import rows as canonical
from tokka.data.rows import Row
from tokka.data.validation import expectations, suite
from tokka.data.validation.expectations import Result
from tokka.data.validation.suite import Expectation
from tokka.sections import Task

OWN: list[tuple[str, dict[str, object]]] = [
    ("expect_column_values_to_be_in_set", {"column": "target", "value_set": ["a", "b"], "mostly": 0.6}),
    ("expect_column_values_to_be_in_set", {"column": "target", "value_set": ["a", "b"], "mostly": 0.7}),
    ("expect_column_values_to_be_unique", {"column": "text"}),
    ("expect_column_values_to_be_null", {"column": "text"}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "target", "value_set": ["a"]}),
    ("expect_column_values_to_match_regex", {"column": "mood", "regex": "a"}),
    ("expect_column_max_to_be_between", {"column": "text", "max_value": 5}),
    ("expect_table_columns_to_match_set", {"column_set": ["text", "target"]}),
    (
        "expect_column_unique_value_count_to_be_between",
        {"column": "text", "max_value": 9, "row_condition": 'target=="a"', "condition_parser": "pandas"},
    ),
]


def judged(path: Path, checks: Sequence[Expectation]) -> list[Result]:
    return expectations.check(path, "own", checks, lambda index: ("rows.csv", index + 2), {"critical"})[0]


@pytest.mark.slow
def test_batches_say_what_all_rows_at_once_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {7: "<p>one</p>", 33: "?!", 34: "?!", 90: "4111 1111 1111 1111"}
    made = [Row(odd.get(number, f"text {number % 80}"), target="abc"[number % 3]) for number in range(100)]
    canonical.write(tmp_path / "rows.parquet", canonical.to_table(made, Task()))
    own = [Expectation(type=kind, kwargs=kwargs) for kind, kwargs in OWN]
    usual = suite.load(ROOT / "data/expectations/messages.json")
    checks = [one for one in usual if one.meta.get("task") != "regression" and one.column != "time"] + own
    whole = judged(tmp_path / "rows.parquet", checks)
    assert {(one["success"], bool(one["error"])) for one in whole} == {(True, False), (False, False), (False, True)}
    for size in (30, 50):
        monkeypatch.setattr(canonical, "BATCH_ROWS", size)
        assert json.dumps(judged(tmp_path / "rows.parquet", checks)) == json.dumps(whole)
