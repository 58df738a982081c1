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
    before, after = (_of_version(records, asked[role]) for role in ("champion", "challenger"))
    summary = {
        "champion": asked["champion"],
        "challenger": asked["challenger"],
        "predictions": _compare(
            asked["answers"]["champion"], asked["answers"]["challenger"], folder / "predictions.html"
        ),
        "predictions_live": _compare(before, after, folder / "predictions_live.html"),
    }
    files.write_json(folder / SUMMARY, summary)
    return summary


def _compare(before: Answers, after: Answers, page: Path) -> dict[str, object]:
    """Rows of both sides and Evidently's figures, with its page; no figure and no page of fewer than LEAST_ROWS."""
    columns: list[dict[str, object]] = []
    if min(len(before), len(after)) >= LEAST_ROWS:
        shown = evidently_report.compare(*_frames(before[-MOST_ROWS:], after[-MOST_ROWS:]))
        files.write_text(page, str(shown.get_html_str(as_iframe=False)))
        metrics = shown.dict()["metrics"]
        columns = [{"metric": str(one["metric_name"]), "value": _plain(one["value"])} for one in metrics]
    return {"champion_rows": len(before), "challenger_rows": len(after), "columns": columns}


def _frames(before: Answers, after: Answers) -> "list[pd.DataFrame]":
    import pandas as pd

    sides = [pd.DataFrame([_row(answer) for answer in side]) for side in (before, after)]
    shared = [name for name in sides[0].columns if all(frame[name].notna().any() for frame in sides)]
    return evidently_report.with_rare_together([frame[shared].dropna() for frame in sides])


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
