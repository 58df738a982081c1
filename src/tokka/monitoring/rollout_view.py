"""Evidently's view of what champion and challenger said during a rollout; it shows, and decides nothing.

    python -m tokka.monitoring.rollout_view ROLLOUT      # a short-lived child of the daemon, once a rollout has ended

Writes beside the rollout's record, in TOKKA_HOME/rollouts/ROLLOUT: `predictions.html` and `predictions_live.html` (the
same inputs asked of both in the shadow; the users' inputs in the steps, split between them) and `predictions.json`, a
summary of both.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokka import files
from tokka.errors import TokkaError
from tokka.monitoring import evidently_report
from tokka.request_log import log
from tokka.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

# Fewer rows on a side show nothing but noise.
LEAST_ROWS = 30
MOST_ROWS = 20_000
ANSWERS = "answers.json"
SUMMARY = "predictions.json"

Answers = Sequence[Mapping[str, Any]]


def write(home: Path, rollout: str) -> dict[str, Any]:
    """Write pages and summary of one rollout; return the summary: rows, and the drift of each column.

    Raises:
        TokkaError: the rollout left no answers.
    """
    folder = home / "rollouts" / rollout
    asked = files.read_json(folder / ANSWERS)
    records = log.read(home / "requests", since=float(asked["started"]))
    live = [_of_version(records, asked[role]) for role in ("champion", "challenger")]
    parts = {"predictions": (asked["answers"]["champion"], asked["answers"]["challenger"]), "predictions_live": live}
    summary: dict[str, Any] = {"champion": asked["champion"], "challenger": asked["challenger"]}
    for name, (before, after) in parts.items():
        summary[name] = {"champion_rows": len(before), "challenger_rows": len(after), "columns": []}
        if min(len(before), len(after)) >= LEAST_ROWS:
            shown = evidently_report.compare(*_frames(before[-MOST_ROWS:], after[-MOST_ROWS:]))
            metrics = shown.dict()["metrics"]
            summary[name]["columns"] = [
                {"metric": str(one["metric_name"]), "value": _plain(one["value"])} for one in metrics
            ]
            files.write_text(folder / f"{name}.html", str(shown.get_html_str(as_iframe=False)))
    files.write_json(folder / SUMMARY, summary)
    return summary


def _frames(before: Answers, after: Answers) -> "list[pd.DataFrame]":
    import pandas as pd

    sides = [pd.DataFrame([_row(answer) for answer in side]) for side in (before, after)]
    shared = [name for name in sides[0].columns if all(frame[name].notna().any() for frame in sides)]
    sides = [frame[shared].dropna() for frame in sides]
    return evidently_report.with_rare_together(sides) if evidently_report.CLASSES in shared else sides


def _row(answer: Mapping[str, Any]) -> dict[str, object]:
    return {"prediction": answer.get("label") or None, "confidence": answer.get("score"), "value": answer.get("value")}


def _of_version(records: Answers, version: str) -> Answers:
    """Only while the traffic was split did both see the same kind of it."""
    return [
        entry
        for entry in records
        if entry["kind"] == "prediction" and str(entry.get("version")) == version and 0 < entry.get("share", 0.0) < 1
    ]


def _plain(value: Any) -> Any:
    """Evidently's figures, which are numpy's or mappings of such, as plain data; None for NaN."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    number = float(value)
    return number if number == number else None


def main() -> int:
    """Look at one rollout of this home; the exit code is 0 when the pages are written."""
    os.nice(19)
    try:
        write(Settings.from_environment().home, sys.argv[1])
    except TokkaError as error:
        return error.report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
