"""Great Expectations over more rows than should be in memory at once: batch by batch where rows stand alone.

What is asked of each row by itself is asked of each batch, and the counts are added up. How many different values a
column has is counted in digests of 64 bits. Everything else sees whole columns, those that it names.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tokka.data import rows as canonical

NAMED_ROWS = 20
FORM = {"result_format": "SUMMARY", "partial_unexpected_count": NAMED_ROWS}
# Metrics of Great Expectations that look at one cell at a time.
ROW_BY_ROW = frozenset(
    f"column_values.{name}"
    for name in (
        "nonnull", "null", "between", "in_set", "not_in_set", "match_regex", "not_match_regex", "match_regex_list",
        "not_match_regex_list", "value_length.between", "value_length.equals", "match_strftime_format",
        "dateutil_parseable", "json_parseable", "match_json_schema",
    )
)  # fmt: skip
DISTINCT = (
    "expect_column_unique_value_count_to_be_between",
    "expect_column_proportion_of_unique_values_to_be_between",
)

# Great Expectations and pandas ship no types.
_Foreign = Any


def validate(path: Path, suite: _Foreign) -> _Foreign:
    """What Great Expectations finds of the suite on the rows of a Parquet file, as if it had them all at once."""
    file = pq.ParquetFile(path)
    if file.metadata.num_rows <= canonical.BATCH_ROWS:
        return _validate(file.read().to_pandas(), suite.name, suite.expectations)
    single = [one for one in suite.expectations if getattr(one, "map_metric", None) in ROW_BY_ROW]
    distinct = [one for one in suite.expectations if one.expectation_type in DISTINCT and not one.row_condition]
    found, digests = _row_by_row(file, suite.name, single, {one.column for one in distinct})
    if digests is not None:
        found += _validate(digests, suite.name, distinct).results
    # What raised in a batch says of the whole what it says.
    known = {_position(result) for result in found if not _raised(result)}
    others = [one for one in suite.expectations if one.meta["position"] not in known]
    outcome = _validate(_whole(file, others), suite.name, others)
    return _joined(outcome, [*outcome.results, *(result for result in found if _position(result) in known)])


def _validate(frame: _Foreign, name: str, expectations: Sequence[_Foreign]) -> _Foreign:
    # A context of its own: Great Expectations keeps the frames that it has seen.
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("tokka").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    copies = [one.copy(update={"id": None}) for one in expectations]
    return batch.validate(gx.ExpectationSuite(name=name, expectations=copies), result_format=FORM)


def _frames(file: pq.ParquetFile) -> Iterator[_Foreign]:
    start = 0
    for batch in file.iter_batches(batch_size=canonical.BATCH_ROWS):
        frame = batch.to_pandas()
        frame.index += start
        start += len(frame)
        yield frame


def _row_by_row(
    file: pq.ParquetFile, name: str, expectations: Sequence[_Foreign], columns: Iterable[str]
) -> tuple[list[_Foreign], _Foreign]:
    """The results on all batches, added up; and a frame of digests of these columns."""
    import pandas as pd

    seen: dict[int, list[_Foreign]] = {}
    digests: dict[str, list[_Foreign]] = {column: [] for column in columns if column in file.schema_arrow.names}
    for frame in _frames(file):
        for result in _validate(frame, name, expectations).results if expectations else ():
            seen.setdefault(_position(result), []).append(result)
        # A context of Great Expectations is a circle that holds its frame.
        gc.collect()
        for column, parts in digests.items():
            values = frame[column].to_numpy()
            parts.append(pd.util.hash_array(values, categorize=False) if values.dtype == object else values)
    known = {one.meta["position"]: one for one in expectations}
    whole = pd.DataFrame({column: np.concatenate(parts) for column, parts in digests.items()}) if digests else None
    return [_added(known[position], results) for position, results in seen.items()], whole


def _added(expectation: _Foreign, results: Sequence[_Foreign]) -> _Foreign:
    """One result of those on the batches, made by the expectation itself from the sums of its metrics."""
    raised = [result for result in results if _raised(result)]
    if raised:
        return raised[0]
    found, metric = [result.result for result in results], expectation.map_metric
    values = [value for one in found for value in one["partial_unexpected_list"]]
    indices = [index for one in found for index in one["partial_unexpected_index_list"]]
    metrics = {
        "table.row_count": sum(one["element_count"] for one in found),
        "column_values.nonnull.unexpected_count": sum(one.get("missing_count") or 0 for one in found),
        f"{metric}.unexpected_count": sum(one["unexpected_count"] for one in found),
        f"{metric}.unexpected_values": values[:NAMED_ROWS],
        f"{metric}.unexpected_index_list": indices[:NAMED_ROWS],
    }
    outcome = expectation._validate(metrics, runtime_configuration={"result_format": FORM})
    results[0].success, results[0].result = outcome["success"], outcome["result"]
    return results[0]


def _whole(file: pq.ParquetFile, expectations: Sequence[_Foreign]) -> _Foreign:
    """All rows, in which a column that no expectation names holds nothing: a byte a row."""
    import pandas as pd

    names, said = file.schema_arrow.names, " ".join(str(one.configuration.kwargs) for one in expectations)
    frame = file.read(columns=[name for name in names if name in said]).to_pandas()
    frame = frame if len(frame.columns) else pd.DataFrame(index=pd.RangeIndex(file.metadata.num_rows))
    for place, name in enumerate(names):
        if name not in frame:
            frame.insert(place, name, np.zeros(len(frame), np.int8))
    return frame


def _joined(outcome: _Foreign, results: Sequence[_Foreign]) -> _Foreign:
    from great_expectations.validator.validator import calc_validation_statistics

    # As Great Expectations has them: what could not be computed comes first.
    outcome.results = sorted(results, key=lambda result: (not _raised(result), _position(result)))
    statistics = calc_validation_statistics(outcome.results)
    outcome.success, outcome.statistics = statistics.success, {**statistics._asdict()}
    return outcome


def _position(result: _Foreign) -> int:
    return int(result.expectation_config.meta["position"])


def _raised(result: _Foreign) -> bool:
    info = result.exception_info
    return any(one["raised_exception"] for one in ([info] if "raised_exception" in info else info.values()))
