"""Validate the data of a run: read strictly, quarantine, and ask the expectation suite.

    result = validate_source(params, settings, out)

`out` then holds rows.parquet and test.parquet (canonical columns), quarantine.jsonl, validation.json and docs.html.
"""

from pathlib import Path
from typing import Any

from tokka import files, progress, provenance
from tokka.data import fetching, reading, rows
from tokka.data.reading import Reading
from tokka.data.validation import docs, expectations, suite
from tokka.data.validation.expectations import Result
from tokka.data.validation.suite import Expectation
from tokka.errors import Refused
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore

STEP = "validate_data"


def validate_source(params: Params, settings: Settings, out: Path, feedback: Path | None = None) -> dict[str, Any]:
    """Read, quarantine and validate; the same files under the same params are not validated twice.

    Returns:
        What validation.json holds: verdict, counts, `source_digest`, one entry per expectation with its failing rows.

    Raises:
        Refused: a critical expectation failed, or too many rows are quarantined; `out` says which.
        TokkaError, UsageError: a file cannot be read.
    """
    digest = fetching.source_digest(params, settings, feedback)
    key, store = provenance.step_key(STEP, params, digest), StepStore(settings.home / "store")
    out.mkdir(parents=True, exist_ok=True)
    if store.fetch(STEP, key, into=out):
        progress.report(STEP, "the same rows were valid before", fraction=1.0)
        return {**files.read_json(out / "validation.json"), "cached": True}
    checks = suite.applicable(suite.load(settings.root / params.validation.suite), params, rows.columns(params.task))
    readings = _read(params, settings, feedback)
    _write_rows(readings, params, out)
    counts = {**_count(readings), "source_digest": digest, "suite": params.validation.suite}
    results = _judge(readings, counts, checks, params, out)
    _stop(results)
    store.save(STEP, key, out)
    return {**files.read_json(out / "validation.json"), "cached": False}


def _read(params: Params, settings: Settings, feedback: Path | None) -> dict[str, Reading]:
    progress.report(STEP, f"reading {Path(params.data.source).name}")

    def fetched(source: str) -> Reading:
        return reading.read(fetching.fetch(source, params.data, settings), params.task, params.data)

    found = {"source": fetched(params.data.source)}
    if feedback:
        found["feedback"] = reading.read_feedback(feedback, params)
    return found | ({"test": fetched(params.data.test)} if params.data.test else {})


def _trained(readings: dict[str, Reading]) -> list[Reading]:
    return [readings[name] for name in ("source", "feedback") if name in readings]


def _write_rows(readings: dict[str, Reading], params: Params, out: Path) -> None:
    """Write the quarantine before it is judged, so that a refusal can be looked up; then the canonical rows."""
    reading.write_quarantine(out / "quarantine.jsonl", list(readings.values()))
    for found in readings.values():
        reading.check_quarantine(found, params.data)
    trained = [row for found in _trained(readings) for row in found.rows]
    rows.write(out / "rows.parquet", rows.to_table(trained, params.task))
    rows.write(out / "test.parquet", rows.to_table(readings["test"].rows if "test" in readings else [], params.task))


def _count(readings: dict[str, Reading]) -> dict[str, Any]:
    """How much was read and what went to quarantine, in all and per file."""
    return {
        "read": sum(found.read for found in readings.values()),
        "quarantined": sum(len(found.quarantined) for found in readings.values()),
        "files": {
            name: {
                "name": found.path.name,
                "digest": found.digest,
                "read": found.read,
                "quarantined": len(found.quarantined),
                "reasons": dict(reading.reasons(found)),
            }
            for name, found in readings.items()
        },
    }


def _judge(
    readings: dict[str, Reading], counts: dict[str, Any], checks: list[Expectation], params: Params, out: Path
) -> list[Result]:
    """Run the expectations, and write validation.json and docs.html."""
    progress.report(STEP, f"{len(checks)} expectations")
    places = [(found.path.name, line) for found in _trained(readings) for line in found.lines]
    name, critical = Path(params.validation.suite).stem, params.validation.critical
    results, page = expectations.check(rows.load(out / "rows.parquet"), name, checks, places, critical)
    judged = {
        **counts,
        "rows": len(places),
        "expectations": results,
        "verdict": "refuse" if any(result["stops"] for result in results) else "pass",
        "warnings": sum(not result["success"] and not result["stops"] for result in results),
    }
    files.write_text(out / "docs.html", docs.render(page, judged))
    files.write_json(out / "validation.json", judged)
    return results


def _stop(results: list[Result]) -> None:
    failed = [result for result in results if result["stops"]]
    if not failed:
        return
    first = failed[0]
    where = f" on {first['column']!r}" if first["column"] else ""
    seen = first["error"] or (f"observed {first['observed']}" if first["observed"] is not None else "")
    lines = ", ".join(str(row["line"]) for row in first["rows"][:5])
    rows_named = f"{first['unexpected_count']} rows (line {lines})" if lines else ""
    more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
    raise Refused(
        f"the data fails {first['type']}{where} ({first['severity']}): {rows_named or seen}{more}",
        "docs.html of validate_data names every failed expectation and its rows",
    )
