"""Evidently's view of what champion and challenger said during a rollout; it shows, and decides nothing.

    python -m tokka.monitoring.rollout_view ROLLOUT      # a short-lived child of the daemon, once a rollout has ended

Writes beside the rollout's record, in TOKKA_HOME/rollouts/ROLLOUT: `predictions.html` and `predictions_live.html` (the
same inputs asked of both in the shadow; the users' inputs in the steps, split between them) and `predictions.json`, a
summary of both. The tests are chi-square on the classes and Kolmogorov-Smirnov on numbers.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError
from tokka.settings import Settings

# Fewer rows on a side show nothing but noise.
LEAST_ROWS = 30
MOST_ROWS = 20_000
SHOWN_CLASSES = 30
ANSWERS = "answers.json"
SUMMARY = "predictions.json"

Answers = Sequence[Mapping[str, Any]]


def write(home: Path, rollout: str) -> dict[str, Any]:
    """Write pages and summary of one rollout; return the summary: rows, and the drift of each column.

    Raises:
        TokkaError: the rollout left no answers.
    """
    from tokka.request_log import log

    folder = home / "rollouts" / rollout
    asked = files.read_json(folder / ANSWERS)
    records = log.read(home / "requests", since=float(asked["started"]))
    live = [_of_version(records, asked[role]) for role in ("champion", "challenger")]
    parts = {"predictions": (asked["answers"]["champion"], asked["answers"]["challenger"]), "predictions_live": live}
    summary: dict[str, Any] = {"champion": asked["champion"], "challenger": asked["challenger"]}
    for name, (before, after) in parts.items():
        summary[name] = {"champion_rows": len(before), "challenger_rows": len(after), "columns": []}
        if min(len(before), len(after)) >= LEAST_ROWS:
            page, summary[name]["columns"] = compare(before, after)
            files.write_text(folder / f"{name}.html", page)
    files.write_json(folder / SUMMARY, summary)
    return summary


def compare(before: Answers, after: Answers) -> tuple[str, list[dict[str, Any]]]:
    """Evidently's page, and its figures as plain data, on answers with `label` and `score`, or `value`."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    frames = _frames(before[-MOST_ROWS:], after[-MOST_ROWS:])
    classes = [name for name in frames[0].columns if name == "prediction"]
    numbers = [name for name in frames[0].columns if name != "prediction"]
    definition = DataDefinition(categorical_columns=classes, numerical_columns=numbers)
    reference, current = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
    preset = DataDriftPreset(columns=[*classes, *numbers], cat_method="chisquare", num_method="ks")
    with warnings.catch_warnings():
        # Constant columns make scipy divide by zero.
        warnings.simplefilter("ignore")
        snapshot = Report([preset]).run(current, reference)
        metrics = snapshot.dict()["metrics"]
        page = str(snapshot.get_html_str(as_iframe=False))
    return page, [{"metric": str(one["metric_name"]), "value": _plain(one["value"])} for one in metrics]


def _frames(before: Answers, after: Answers) -> list[Any]:
    import pandas as pd

    frames = [pd.DataFrame([_row(answer) for answer in side]) for side in (before, after)]
    shared = [name for name in frames[0].columns if all(frame[name].notna().any() for frame in frames)]
    frames = [frame[shared].dropna() for frame in frames]
    if "prediction" in shared:
        both = pd.concat([frame["prediction"] for frame in frames])
        shown = set(both.value_counts().index[:SHOWN_CLASSES])
        frames = [
            frame.assign(prediction=frame["prediction"].where(frame["prediction"].isin(shown), "other classes"))
            for frame in frames
        ]
    return frames


def _row(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"prediction": answer.get("label") or None, "confidence": answer.get("score"), "value": answer.get("value")}


def _of_version(records: Answers, version: str) -> list[Mapping[str, Any]]:
    """Only while the traffic was split did both see the same kind of it."""
    return [
        entry
        for entry in records
        if entry["kind"] == "prediction" and str(entry.get("version")) == version and 0 < entry.get("share", 0.0) < 1
    ]


def _plain(value: Any) -> Any:
    """Evidently's figures are numpy's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    number = float(value)
    return number if number == number else None


def main() -> int:
    """Look at one rollout of this home; the exit code is 0 when the pages are written."""
    settings = Settings.from_environment()
    os.nice(19)
    try:
        write(settings.home, sys.argv[1])
    except TokkaError as error:
        return error.report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
