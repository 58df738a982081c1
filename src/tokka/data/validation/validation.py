"""Validate the data of a run: read strictly, quarantine, and ask the expectation suite.

The step's folder then holds rows.parquet, validation.parquet and test.parquet (canonical columns), quarantine.jsonl,
validation.json and docs.html.
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from typing import Any, Self

from tokka import files, progress, provenance
from tokka.data import fetching, reading, rows
from tokka.data.normalising import label
from tokka.data.reading import Reading
from tokka.data.rows import OFFICIAL
from tokka.data.validation import docs, expectations, suite
from tokka.data.validation.expectations import Result
from tokka.data.validation.suite import Expectation
from tokka.errors import Refused
from tokka.files import JsonObject
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore

STEP = "validate_data"


def validate_source(params: Params, settings: Settings, out: Path, feedback: Path | None = None) -> dict[str, object]:
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
    with _Canonical(params, out) as canonical:
        readings = _read(params, settings, feedback, canonical)
        for found in readings.values():
            reading.check_quarantine(found, params.data)
    counts = {**_count(readings, canonical), "source_digest": digest, "suite": params.validation.suite}
    results = _judge(canonical, counts, checks, params, out)
    _stop(results)
    store.save(STEP, key, out)
    return {**files.read_json(out / "validation.json"), "cached": False}


class _Canonical:
    """The rows of all files on their way to Parquet, under the labels that `data.labels` gives them; in memory a batch.

    rows.parquet holds those that are trained on, and `lines` where each of them stands: 8 bytes a row.
    """

    def __init__(self, params: Params, out: Path) -> None:
        self.params, self.out = params, out
        self.names = {label(old): label(new) for old, new in params.data.labels.items()}
        self.relabelled: dict[str, Counter[str]] = {}
        self.lines, self.trained = array("q"), list[tuple[str, int]]()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            empty = rows.to_table([], self.params.task)
            self._sinks = {
                name: stack.enter_context(rows.writing(self.out / f"{name}.parquet", empty.schema))
                for name in ("rows", *OFFICIAL)
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def take(self, name: str, found: Reading) -> None:
        """Write a batch of one file's rows, those of retired classes left out."""
        known = Counter(str(row.target) for row in found.rows if row.target in self.names)
        self.relabelled.setdefault(name, Counter()).update(known)
        kept, lines = found.rows, found.lines
        if known:
            staying = [self.names.get(str(row.target), True) for row in found.rows]
            kept = [row._replace(target=self.names.get(str(row.target), row.target)) for row in compress(kept, staying)]
            lines = [*compress(lines, staying)]
        self._sinks[name if name in OFFICIAL else "rows"](rows.to_table(kept, self.params.task))
        if name not in OFFICIAL:
            self.lines.extend(lines)
            self.trained.append((found.path.name, len(self.lines)))

    def place(self, index: int) -> tuple[str, int]:
        """File and line of a row in rows.parquet."""
        return next(name for name, end in self.trained if index < end), self.lines[index]


def _read(params: Params, settings: Settings, feedback: Path | None, canonical: _Canonical) -> dict[str, Reading]:
    progress.report(STEP, f"reading {Path(params.data.source).name}")
    with files.written(canonical.out / "quarantine.jsonl") as quarantine:

        def taking(name: str) -> reading.Taken:
            def take(found: Reading) -> None:
                quarantine.write(reading.quarantine_lines(found).encode())
                canonical.take(name, found)

            return take

        def fetched(name: str, source: str) -> Reading:
            return reading.read(fetching.fetch(source, params.data, settings), params.task, params.data, taking(name))

        found = {"source": fetched("source", params.data.source)}
        if feedback:
            found["feedback"] = reading.read_feedback(feedback, params, taking("feedback"))
        sources = {name: getattr(params.data, name) for name in OFFICIAL}
        return found | {name: fetched(name, source) for name, source in sources.items() if source}


def _count(readings: dict[str, Reading], canonical: _Canonical) -> JsonObject:
    return {
        "read": sum(found.read for found in readings.values()),
        "quarantined": sum(found.bad for found in readings.values()),
        "files": {
            name: {
                "name": found.path.name,
                "digest": found.digest,
                "read": found.read,
                "quarantined": found.bad,
                "reasons": dict(found.kinds.most_common()),
                **_relabelled(canonical.relabelled[name], canonical.names),
            }
            for name, found in readings.items()
        },
        "unused_labels": sorted(set(canonical.names).difference(*canonical.relabelled.values())),
    }


def _relabelled(known: Counter[str], names: Mapping[str, str]) -> dict[str, dict[str, int]]:
    return {
        "renamed": {f"{old} → {names[old]}": count for old, count in sorted(known.items()) if names[old]},
        "retired": {old: count for old, count in sorted(known.items()) if not names[old]},
    }


def _judge(
    canonical: _Canonical, counts: dict[str, object], checks: list[Expectation], params: Params, out: Path
) -> list[Result]:
    progress.report(STEP, f"{len(checks)} expectations")
    name, critical = Path(params.validation.suite).stem, params.validation.critical
    results, page = expectations.check(out / "rows.parquet", name, checks, canonical.place, critical)
    judged = {
        **counts,
        "rows": len(canonical.lines),
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
