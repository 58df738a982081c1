"""Great Expectations over canonical rows: an ephemeral context, plain results, one page of Data Docs."""

import html
import logging
import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypedDict

from tokka import settings
from tokka.data.validation import batches
from tokka.data.validation.suite import Expectation
from tokka.errors import UsageError
from tokka.progress import silent

VALUE_CHARACTERS = 120

# Great Expectations ships no types: its objects, and its results as it gives them in JSON.
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
    path: Path,
    name: str,
    expectations: Sequence[Expectation],
    place: Callable[[int], tuple[str, int]],
    critical: Collection[str],
) -> tuple[list[Result], str]:
    """Run the expectations; return the result of each, in order, and the Data Docs page as GX renders it.

    Args:
        path: the rows.
        place: file and line of the row at an index.
        critical: severities that stop the run.

    Raises:
        UsageError: an expectation does not exist or has arguments that it does not know.
    """
    os.environ.update(settings.QUIET)
    # GX and pandas warn about their own future, as errors too; that is not the user's to mend.
    with silent(logging.ERROR):
        import great_expectations as gx
        from great_expectations.render.renderer import ValidationResultsPageRenderer
        from great_expectations.render.view import DefaultJinjaPageView

        gx.get_context(mode="ephemeral").variables.progress_bars = {"globally": False}
        outcome = batches.validate(path, _suite(name, expectations))
        # GX sorts them; `position` is what `_build` gave each.
        found = sorted(
            (result.to_json_dict() for result in outcome.results),
            key=lambda result: int(result["expectation_config"]["meta"]["position"]),
        )
        for result in outcome.results:
            # GX writes values into its page as they are: markup of a message would become part of it.
            result.result = _escaped(result.result)
        page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
        return [_plain(result, place, critical) for result in found], str(page)


def _escaped(value: _Foreign) -> _Foreign:
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return html.escape(value).replace("$", "&#36;") if isinstance(value, str) else value


def _suite(name: str, expectations: Sequence[Expectation]) -> _Foreign:
    """The suite from finished objects: of a dictionary that it cannot build, GX leaves no more than a log line.

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


def _plain(result: _Foreign, place: Callable[[int], tuple[str, int]], critical: Collection[str]) -> Result:
    config, found = result["expectation_config"], result.get("result") or {}
    error = _error(result.get("exception_info") or {})
    success, share = bool(result["success"]) and not error, found.get("unexpected_percent")
    seen = found.get("observed_value")
    plain = isinstance(seen, float) and math.isfinite(seen)
    values = [str(value)[:VALUE_CHARACTERS] for value in found.get("partial_unexpected_list") or []]
    indices = [int(index) for index in found.get("partial_unexpected_index_list") or []]
    return Result(
        type=config["type"],
        column=config["kwargs"].get("column"),
        severity=config["severity"],
        success=success,
        stops=not success and config["severity"] in critical,
        notes=config["meta"].get("notes", ""),
        observed=seen if seen is None or isinstance(seen, str | int) or plain else str(seen)[:VALUE_CHARACTERS],
        unexpected_count=int(found.get("unexpected_count") or 0),
        unexpected_share=share / 100 if isinstance(share, float) and math.isfinite(share) else 0.0,
        rows=[
            FailingRow(file=file, line=line, value=value)
            for (file, line), value in zip(map(place, indices), values, strict=False)
        ],
        error=error,
    )


def _error(info: _Foreign) -> str:
    """The first line of what GX caught: a missing column is such an error, not a raise."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "it could not be computed").splitlines()[0][:300]
    return ""
