"""The expectation suite: JSON in git, checked before it is believed.

An emptied suite passes everything, so it is refused; so is one in which nothing is about the number of rows,
since Great Expectations passes `not_null` and `in_set` on no rows at all.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokka.errors import Refused, UsageError
from tokka.params import Params

SEVERITIES = ("critical", "warning", "info")
ROW_COUNT = "expect_table_row_count_to_be_between"


def load(path: Path) -> dict[str, Any]:
    """The suite as plain data: name and expectations of type, kwargs, severity, meta.

    Raises:
        UsageError: the file is missing, no JSON, or no suite.
    """
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", "set validation.suite to the suite's JSON file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not JSON: {error}", "restore it from git") from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise UsageError(f"{path} is no expectation suite: it has no list 'expectations'", "restore it from git")
    for number, entry in enumerate(suite["expectations"], start=1):
        _check_entry(path, number, entry)
    return suite


def applicable(suite: dict[str, Any], params: Params, columns: Collection[str]) -> list[dict[str, Any]]:
    """The expectations for this task: `meta.task` names the one it is for, `meta.optional` allows its column to lack.

    Raises:
        Refused: what is left would stop nothing.
    """
    chosen = [
        entry
        for entry in suite["expectations"]
        if entry["meta"].get("task", params.task.type) == params.task.type
        and not (entry["meta"].get("optional") and entry["kwargs"].get("column") not in columns)
    ]
    _check_teeth(chosen, params)
    return chosen


def _check_entry(path: Path, number: int, entry: Any) -> None:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("type"), str)
        or not isinstance(entry.get("kwargs"), dict)
    ):
        raise UsageError(f"{path}: expectation {number} has no type and kwargs", "restore the file from git")
    if entry.setdefault("severity", "critical") not in SEVERITIES:
        allowed = ", ".join(SEVERITIES)
        raise UsageError(f"{path}: expectation {number}: severity {entry['severity']!r}, allowed are {allowed}")
    if not isinstance(entry.setdefault("meta", {}), dict):
        raise UsageError(f"{path}: expectation {number}: meta is no mapping", "restore the file from git")


def _check_teeth(chosen: list[dict[str, Any]], params: Params) -> None:
    name, stopping = (
        params.validation.suite,
        [entry for entry in chosen if entry["severity"] in params.validation.critical],
    )
    hint = "restore the suite from git; a suite that can stop nothing is not a check"
    if not params.validation.critical:
        raise UsageError(
            "validation.critical is empty: no failed expectation would stop the run", "name at least 'critical'"
        )
    if not stopping:
        raise Refused(f"{name} has no expectation of severity {' or '.join(params.validation.critical)}", hint)
    if not any(entry["type"] == ROW_COUNT and (entry["kwargs"].get("min_value") or 0) >= 1 for entry in stopping):
        raise Refused(f"{name} has no {ROW_COUNT} that can stop the run: no rows at all would pass", hint)
    for column in ("text", "target"):
        if not any(entry["kwargs"].get("column") == column for entry in stopping):
            raise Refused(f"{name} has no expectation about {column!r} that can stop the run", hint)
