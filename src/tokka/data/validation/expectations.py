"""Great Expectations over canonical rows: an ephemeral context, plain results, one page of Data Docs."""

import contextlib
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tokka import settings
from tokka.errors import UsageError

NAMED_ROWS = 20
VALUE_CHARACTERS = 120


def check(table: pa.Table, name: str, expectations: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Run the expectations; return one plain result for each, in order, and the Data Docs page as GX wrote it.

    A result has type, column, severity, success, notes, observed, unexpected_count, unexpected_share, indices and
    values of the first failing rows, and error.

    Raises:
        UsageError: an expectation does not exist or has arguments that it does not know.
    """
    os.environ.update(settings.QUIET)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        suite = context.suites.add(_suite(name, expectations))
        outcome = _checkpoint(context, suite, Path(folder)).run(batch_parameters={"dataframe": table.to_pandas()})
        (page,) = Path(folder, "validations").rglob("*.html")
        found = [result.to_json_dict() for run in outcome.run_results.values() for result in run.results]
        results = {result["expectation_config"]["meta"]["position"]: result for result in found}
        plain = [_plain(results[position]) for position in range(len(expectations))]
        return plain, page.read_text(encoding="utf-8")


def _suite(name: str, expectations: list[dict[str, Any]]) -> Any:
    """The suite from finished objects: GX skips a dictionary that it cannot build, with no more than a log line.

    Added one by one, a second expectation of a type on a column would replace the first.
    """
    import great_expectations as gx

    built = [_build(position, entry) for position, entry in enumerate(expectations)]
    suite = gx.ExpectationSuite(name=name, expectations=built)
    if len(suite.expectations) != len(built):
        raise UsageError(f"suite {name!r} has the same expectation twice", "take one of them out")
    return suite


def _build(position: int, entry: dict[str, Any]) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        return ExpectationConfiguration(
            type=entry["type"],
            kwargs=entry["kwargs"],
            meta={**entry["meta"], "position": position},
            severity=entry["severity"],
        ).to_domain_obj()
    except Exception as error:
        # GX raises its own and pydantic's errors, from several places, for a wrong name and a wrong argument.
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"expectation {entry['type']!r} is not valid: {reason}", "mend the suite, see docs of GX"
        ) from None


def _checkpoint(context: Any, suite: Any, folder: Path) -> Any:
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": store,
        "site_index_builder": index,
    }
    context.add_data_docs_site(site_name="docs", site_config=site)
    asset = context.data_sources.add_pandas("tokka").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="rows", data=batch, suite=suite))
    return context.checkpoints.add(
        gx.Checkpoint(
            name="rows",
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name="docs", site_names=["docs"])],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": NAMED_ROWS},
        )
    )


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    config, found = result["expectation_config"], result.get("result") or {}
    error = _error(result.get("exception_info") or {})
    values = [str(value)[:VALUE_CHARACTERS] for value in found.get("partial_unexpected_list") or []]
    share = found.get("unexpected_percent")
    observed = found.get("observed_value")
    return {
        "type": config["type"],
        "column": config["kwargs"].get("column"),
        "severity": config["severity"],
        "success": bool(result["success"]) and not error,
        "notes": config["meta"].get("notes", ""),
        "observed": observed if _is_plain(observed) else None if observed is None else str(observed)[:VALUE_CHARACTERS],
        "unexpected_count": int(found.get("unexpected_count") or 0),
        "unexpected_share": share / 100 if isinstance(share, float) and math.isfinite(share) else 0.0,
        "indices": [int(index) for index in found.get("partial_unexpected_index_list") or []],
        "values": values,
        "error": error,
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _error(info: dict[str, Any]) -> str:
    """The first line of what GX caught: a missing column is such an error, not a raise."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
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
