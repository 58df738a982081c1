"""What a run read and did not train on, and why: from the counts of validation.json and summary.json.

`Dropped` stands in versioning.json, in the report, in MLflow and in the table that a run ends with.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokka import files

NAME = "dropped.json"
SHOWN = 3
COUNTS = (
    "exact_duplicates", "conflicting_targets", "near_duplicates", "rows_of_test_groups", "dropped_rows",
)  # fmt: skip
# Plain values of two JSON files of ours: the keys stand below.
Dropped = Mapping[str, Any]


def of(validation: Dropped, summary: Dropped, quarantine: Sequence[Dropped]) -> dict[str, Any]:
    """What was left out: rows by reason and step, with examples."""
    each = (validation.get("files") or {}).values()
    kinds, retired, renamed = (
        _total(found.get(name) or {} for found in each) for name in ("reasons", "retired", "renamed")
    )
    return {
        "read": validation.get("read", summary.get("read", 0)),
        "quarantined": validation.get("quarantined", 0),
        "reasons": kinds,
        "quarantine": [{name: row[name] for name in ("file", "line", "reason")} for row in quarantine],
        "retired": retired,
        "renamed": renamed,
        "unused_labels": validation.get("unused_labels") or [],
        **{name: summary.get(name, 0) for name in COUNTS},
        "dropped_classes": summary.get("dropped_classes") or {},
        "conflicts": summary.get("conflicts") or [],
        "alike_labels": summary.get("alike_labels") or [],
    }


def read(prepared: Path) -> dict[str, Any]:
    """What the folder says of it, with `words` for people; of summary.json alone where nothing else was noted."""
    place = prepared / NAME
    found = files.read_json(place) if place.is_file() else of({}, files.read_json(prepared / "summary.json"), [])
    return {**found, "words": in_words(found)}


def in_words(dropped: Dropped) -> list[tuple[str, str]]:
    """What was left out and why, a line each; nothing for nothing."""
    if not dropped:
        return []
    lines = {
        "quarantined": _rows(dropped["quarantined"], _some(dropped["reasons"])),
        "retired": _rows(sum(dropped["retired"].values()), _some(dropped["retired"])),
        "renamed": _rows(sum(dropped["renamed"].values()), _some(dropped["renamed"])),
        "duplicates": _rows(dropped["exact_duplicates"], "the same text again"),
        "conflicting labels": _conflicts(dropped),
        "near-duplicates": _rows(dropped["near_duplicates"], "nearly a test or validation row"),
        "groups": _rows(dropped["rows_of_test_groups"], "of groups that are tested"),
        "small classes": _rows(dropped["dropped_rows"], _some(dropped["dropped_classes"])),
        "labels alike": "; ".join(" and ".join(map(repr, names)) for names in dropped["alike_labels"][:SHOWN]),
        "unused in data.labels": ", ".join(map(repr, dropped["unused_labels"][:SHOWN])),
    }
    return [(name, words) for name, words in lines.items() if words]


def figures(dropped: Dropped) -> Iterator[tuple[str, int]]:
    """The counts by name."""
    for name in ("read", "quarantined", *COUNTS):
        yield name, int(dropped.get(name, 0))
    for name in ("retired", "renamed"):
        yield name, sum((dropped.get(name) or {}).values())


def _total(found: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one)
    return dict(total.most_common())


def _rows(count: int, why: str) -> str:
    return f"{count:,} rows: {why}" if count else ""


def _some(counts: Mapping[str, int]) -> str:
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{name} ({count:,})" for name, count in [*counts.items()][:SHOWN]) + more


def _conflicts(dropped: Dropped) -> str:
    if not dropped["conflicting_targets"]:
        return ""
    first = next(iter(dropped["conflicts"]), None)
    example = f", such as {first['text'][:60]!r}: {_some(first['targets'])}" if first else ""
    return f"{dropped['conflicting_targets']:,} texts with more than one{example}"
