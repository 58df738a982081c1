"""The expectation suite: a JSON file in git, validated before use.

A suite that can stop nothing is refused: an empty one, and one in which no expectation is about the number of rows,
since Great Expectations passes `not_null` and `in_set` on no rows at all.
"""

from collections.abc import Collection
from dataclasses import field
from pathlib import Path

from pydantic import BaseModel, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from tokka import files
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import Params

SEVERITIES = ("critical", "warning", "info")
ROW_COUNT = "expect_table_row_count_to_be_between"


@dataclass(frozen=True)
class Expectation:
    """Great Expectations' type and arguments, and what a failure means.

    `meta.task` names the type of task that it is for, `meta.optional` allows its column to lack.
    """

    type: str
    kwargs: dict[str, object]
    severity: str = "critical"
    meta: dict[str, object] = field(default_factory=dict)

    @field_validator("severity")
    @classmethod
    def _is_known(cls, severity: str) -> str:
        if severity not in SEVERITIES:
            raise ValueError(f"{severity!r}, allowed are {', '.join(SEVERITIES)}")
        return severity

    @property
    def column(self) -> object:
        """The column that it is about; None for the table."""
        return self.kwargs.get("column")


class _Suite(BaseModel):
    expectations: list[Expectation]


def load(path: Path) -> list[Expectation]:
    """The expectations of a suite's file; UsageError when it is missing or no suite."""
    try:
        files.check_readable(path, "set validation.suite to the suite's JSON file")
        return _Suite.model_validate_json(path.read_bytes()).expectations
    except TokkaError as error:
        raise UsageError(error.message, error.hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path} is no expectation suite: {where}: {first['msg']}", "restore it from git") from None


def applicable(suite: list[Expectation], params: Params, columns: Collection[str]) -> list[Expectation]:
    """The expectations for this task and for columns that the rows have.

    Raises:
        Refused: what is left would stop nothing.
        UsageError: validation.critical is empty.
    """
    chosen = [
        entry
        for entry in suite
        if entry.meta.get("task", params.task.type) == params.task.type
        and not (entry.meta.get("optional") and entry.column not in columns)
    ]
    _check_can_stop(chosen, params.validation.suite, params.validation.critical)
    return chosen


def _check_can_stop(chosen: list[Expectation], name: str, critical: Collection[str]) -> None:
    if not critical:
        raise UsageError(
            "validation.critical is empty: no failed expectation would stop the run", "name at least 'critical'"
        )
    stopping = [entry for entry in chosen if entry.severity in critical]
    hint = "restore the suite from git; a suite that can stop nothing is not a check"
    if not stopping:
        raise Refused(f"{name} has no expectation of severity {' or '.join(critical)}", hint)
    least = [entry.kwargs.get("min_value") for entry in stopping if entry.type == ROW_COUNT]
    if not any(isinstance(rows, int) and rows >= 1 for rows in least):
        raise Refused(f"{name} has no {ROW_COUNT} that can stop the run: no rows at all would pass", hint)
    for column in ("text", "target"):
        if not any(entry.column == column for entry in stopping):
            raise Refused(f"{name} has no expectation about {column!r} that can stop the run", hint)
