"""Great Expectations over canonical rows: an ephemeral context, plain results, one page of Data Docs."""

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypedDict

import pyarrow as pa

from tokka import settings
from tokka.data.validation.suite import Expectation
from tokka.errors import UsageError

NAMED_ROWS = 20
VALUE_CHARACTERS = 120

# Great Expectations has no types: its objects, and its results as it gives them in JSON.
_Foreign = Any


class FailingRow(TypedDict):
    """Where a value stands that an expectation does not allow."""

    file: str
    line: int
    value: str


class Result(TypedDict):
    """What became of one expectation; `stops` when its failure ends the run, `rows` are the first failing ones."""

    type: str
    column: str | None
    severity: str
    success: bool
    stops: bool
    notes: str
    observed: str | float | None
    unexpected_count: int
    unexpected_share: float
    rows: list[FailingRow]
    error: str


def check(
    table: pa.Table,
    name: str,
    expectations: Sequence[Expectation],
    places: Sequence[tuple[str, int]],
    critical: Collection[str],
) -> tuple[list[Result], str]:
    """Run the expectations; return the result of each, in order, and the Data Docs page as GX renders it.

    Args:
        table: the canonical rows.
        name: of the suite.
        expectations: what is expected.
        places: file and line of each row.
        critical: severities that stop the run.

    Raises:
        UsageError: an expectation does not exist or has arguments that it does not know.
    """
    os.environ.update(settings.QUIET)
    with _quiet():
        import great_expectations as gx
        from great_expectations.render.renderer import ValidationResultsPageRenderer
        from great_expectations.render.view import DefaultJinjaPageView

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        suite = context.suites.add(_suite(name, expectations))
        asset = context.data_sources.add_pandas("tokka").add_dataframe_asset("rows")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table.to_pandas()})
        form = {"result_format": "SUMMARY", "partial_unexpected_count": NAMED_ROWS}
        outcome = batch.validate(suite, result_format=form)
        # GX sorts them; `position` is what `_build` gave each.
        found = sorted(
            (result.to_json_dict() for result in outcome.results),
            key=lambda result: int(result["expectation_config"]["meta"]["position"]),
        )
        page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
        return [_plain(result, places, critical) for result in found], str(page)


def _suite(name: str, expectations: Sequence[Expectation]) -> _Foreign:
    """The suite from finished objects: GX skips a dictionary that it cannot build, with no more than a log line.

    Added one by one, a second expectation of a type on a column would replace the first.
    """
    import great_expectations as gx

    built = [_build(position, entry) for position, entry in enumerate(expectations)]
    suite = gx.ExpectationSuite(name=name, expectations=built)
    if len(suite.expectations) != len(built):
        raise UsageError(f"suite {name!r} has the same expectation twice", "take one of them out")
    return suite


def _build(position: int, entry: Expectation) -> _Foreign:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        meta = {**entry.meta, "position": position}
        found = ExpectationConfiguration(type=entry.type, kwargs=entry.kwargs, meta=meta, severity=entry.severity)
        return found.to_domain_obj()
    except Exception as error:
        # GX raises its own and pydantic's errors, from several places, for a wrong name and a wrong argument.
        reason = " ".join(str(error).split())[:200]
        hint = "mend the suite, see docs of GX"
        raise UsageError(f"expectation {entry.type!r} is not valid: {reason}", hint) from None


def _plain(result: _Foreign, places: Sequence[tuple[str, int]], critical: Collection[str]) -> Result:
    config, found = result["expectation_config"], result.get("result") or {}
    error = _error(result.get("exception_info") or {})
    success, share = bool(result["success"]) and not error, found.get("unexpected_percent")
    values = [str(value)[:VALUE_CHARACTERS] for value in found.get("partial_unexpected_list") or []]
    indices = [int(index) for index in found.get("partial_unexpected_index_list") or []]
    return Result(
        type=config["type"],
        column=config["kwargs"].get("column"),
        severity=config["severity"],
        success=success,
        stops=not success and config["severity"] in critical,
        notes=config["meta"].get("notes", ""),
        observed=_observed(found.get("observed_value")),
        unexpected_count=int(found.get("unexpected_count") or 0),
        unexpected_share=share / 100 if isinstance(share, float) and math.isfinite(share) else 0.0,
        rows=[
            FailingRow(file=places[index][0], line=places[index][1], value=value)
            for index, value in zip(indices, values, strict=False)
        ],
        error=error,
    )


def _observed(value: object) -> str | float | None:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:VALUE_CHARACTERS]


def _error(info: _Foreign) -> str:
    """The first line of what GX caught: a missing column is such an error, not a raise."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "it could not be computed").splitlines()[0][:300]
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """GX and pandas warn about their own future; that is not the user's to mend."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(level)
