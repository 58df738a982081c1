"""Windows of live traffic, cut from the request log, and the labelled feedback in it.

    found = cut(records, window_rows=250, version="3")
    found.windows[-1].rows           # predictions of version 3, oldest first, each with its feedback or None

A window is fixed once it is full: it is cut from the start of the log and never shifts, so that looking more often
does not test more often. A window holds the predictions of one version only, since another version answers otherwise
to the same traffic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from tokka import files
from tokka.monitoring.drift.columns import Record


class Predicted(Record):
    """A prediction that a user got, with the last feedback on it."""

    feedback: Record | None


class Labelled(TypedDict):
    """A text with the truth that came back about it, and when (seconds since 1970)."""

    text: str
    text_pair: NotRequired[str]
    label: str | float
    time: float


@dataclass(frozen=True)
class Window:
    """Consecutive predictions of one version; `number` counts from 1."""

    number: int
    rows: tuple[Predicted, ...]

    @property
    def digest(self) -> str:
        """The window's identity: its predictions, in order."""
        return files.digest_json([row["prediction_id"] for row in self.rows])

    @property
    def replayed(self) -> int:
        """How many rows the pipeline itself replayed."""
        return sum(bool(row.get("replayed")) for row in self.rows)

    def describe(self) -> dict[str, object]:
        """The window as plain data, without its rows."""
        return {
            "number": self.number,
            "rows": len(self.rows),
            "replayed": self.replayed,
            "began": float(self.rows[0]["time"]),
            "ended": float(self.rows[-1]["time"]),
            "digest": self.digest,
        }


@dataclass(frozen=True)
class Cut:
    """Full windows, oldest first, and the rows that do not fill another one yet."""

    windows: tuple[Window, ...] = ()
    rest: tuple[Predicted, ...] = ()


def cut(records: Iterable[Record], window_rows: int, version: str = "", known: frozenset[str] = frozenset()) -> Cut:
    """Cut the predictions of one version (empty: of all) into windows of `window_rows`.

    Args:
        records: the request log, in any order.
        window_rows: rows of a window.
        version: the champion's; predictions of a challenger on trial are not the champion's traffic.
        known: texts that the pipeline replays out of the test set during a rollout; such rows are no traffic.
    """
    rows = [row for row in predictions(records) if not version or str(row.get("version")) == version]
    rows = [row for row in rows if not is_own_replay(row, known)]
    full = len(rows) // window_rows
    slices = [rows[index * window_rows : (index + 1) * window_rows] for index in range(full)]
    windows = tuple(Window(number + 1, tuple(part)) for number, part in enumerate(slices))
    return Cut(windows, tuple(rows[full * window_rows :]))


def predictions(records: Iterable[Record]) -> list[Predicted]:
    """One row per prediction that a user got, oldest first, with the last feedback on it under `feedback`.

    A retried request is logged twice under one id and counts once; shadow predictions, which no user saw, never.
    """
    rows: dict[str, Record] = {}
    truths: dict[str, Record] = {}
    for record in sorted(records, key=_time):
        name = str(record.get("prediction_id", ""))
        if record.get("kind") == "prediction" and not record.get("shadow"):
            rows.setdefault(name, record)
        elif record.get("kind") == "feedback" and is_a_persons(record):
            truths[name] = record
    return [{**row, "feedback": truths.get(name)} for name, row in rows.items()]


def labelled(records: Iterable[Record], known: frozenset[str] = frozenset()) -> list[Labelled]:
    """Rows to learn from, in order of time, each text once with the last truth about it.

    The label is never the model's own: rows without feedback, and rows without their text, are left out.
    """
    found: dict[tuple[str, str | None], Labelled] = {}
    for row in predictions(records):
        feedback, text = row["feedback"], str(row.get("text") or "")
        if feedback is None or not text.strip() or is_own_replay(row, known):
            continue
        truth = feedback.get("label", feedback.get("value"))
        if truth is None or truth == "":
            continue
        entry = Labelled(text=text, label=truth, time=float(feedback["time"]))
        if row.get("text_pair") is not None:
            entry["text_pair"] = str(row["text_pair"])
        found[text, entry.get("text_pair")] = entry
    return sorted(found.values(), key=lambda entry: (entry["time"], entry["text"]))


def is_a_persons(feedback: Record) -> bool:
    """Whether the feedback is no model's own: of that a model learns nothing but its mistakes."""
    return str(feedback.get("source", "person")) not in ("model", "self")


def is_own_replay(row: Record, known: frozenset[str]) -> bool:
    """A row of the test set that a rollout sent in order to have any traffic."""
    return bool(row.get("replayed")) and str(row.get("text", "")) in known


def count_since(rows: Sequence[Labelled], moment: float) -> int:
    """How many labelled rows came after a moment (seconds since 1970)."""
    return sum(row["time"] > moment for row in rows)


def _time(record: Record) -> float:
    return float(record["time"])
