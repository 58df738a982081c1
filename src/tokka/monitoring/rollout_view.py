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
from typing import TYPE_CHECKING, TypedDict

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

# One of Evidently's figures as plain data.
Figure = float | None | dict[str, "Figure"]


class Answer(TypedDict, total=False):
    """What a version said: a label with its score, or a value."""

    label: str | None
    score: float | None
    value: float | None


def write(home: Path, rollout: str) -> dict[str, object]:
    """Write pages and summary of one rollout; return the summary: rows, and the drift of each column."""
    folder = home / "rollouts" / rollout
    asked = files.read_json(folder / ANSWERS)
    records = log.read(home / "requests", since=float(asked["started"]))
    # Only while the traffic was split did both see the same kind of it.
    split = [entry for entry in records if entry["kind"] == "prediction" and 0 < entry.get("share", 0.0) < 1]
    before, after = (
        [entry for entry in split if str(entry.get("version")) == asked[role]] for role in ("champion", "challenger")
    )
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


def _compare(before: Sequence[Answer], after: Sequence[Answer], page: Path) -> dict[str, object]:
    """Rows of both sides and Evidently's figures, with its page; no figure and no page of fewer than LEAST_ROWS."""
    columns: list[dict[str, object]] = []
    if min(len(before), len(after)) >= LEAST_ROWS:
        shown = evidently_report.compare(*_frames([before[-MOST_ROWS:], after[-MOST_ROWS:]]))
        files.write_text(page, str(shown.get_html_str(as_iframe=False)))
        metrics = shown.dict()["metrics"]
        columns = [{"metric": str(one["metric_name"]), "value": _plain(one["value"])} for one in metrics]
    return {"champion_rows": len(before), "challenger_rows": len(after), "columns": columns}


def _frames(answers: Sequence[Sequence[Answer]]) -> "list[pd.DataFrame]":
    import pandas as pd

    names = {"label": "prediction", "score": "confidence", "value": "value"}
    sides = [pd.DataFrame(side, columns=list(names)).rename(columns=names).replace({"": None}) for side in answers]
    shared = [name for name in sides[0].columns if all(frame[name].notna().any() for frame in sides)]
    return evidently_report.with_rare_together([frame[shared].dropna() for frame in sides])


def _plain(value: float | Mapping[str, float]) -> Figure:
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
