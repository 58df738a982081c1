"""Windows of live traffic, cut from the request log, and the labelled feedback in it.

A window is fixed once it is full: it is cut from the start of the log and never shifts, so that looking more often
does not test more often. It holds the predictions of one version only, since another answers otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NotRequired, TypedDict

from tokka import files
from tokka.request_log.framing import LogRecord


class Predicted(LogRecord):
    """A prediction that a user got, with the last feedback on it."""

    feedback: LogRecord | None


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


def cut(
    records: Iterable[LogRecord], window_rows: int, version: str = "", known: frozenset[str] = frozenset(),
    before: int = 0,
) -> Cut:  # fmt: skip
    """Cut the predictions of one version (empty: of all) into windows, whatever the order of the records.

    `before`: how many full windows there are whose rows are not among the records. `known`: texts that the pipeline
    replays out of the test set during a rollout: such rows are no traffic.
    """
    rows = [row for row in predictions(records) if not version or str(row.get("version")) == version]
    rows = [row for row in rows if not is_own_replay(row, known)]
    full = len(rows) // window_rows
    slices = [rows[index * window_rows : (index + 1) * window_rows] for index in range(full)]
    windows = tuple(Window(before + number + 1, tuple(part)) for number, part in enumerate(slices))
    return Cut(windows, tuple(rows[full * window_rows :]))


def predictions(records: Iterable[LogRecord]) -> list[Predicted]:
    """One row per prediction that a user got, oldest first, with the last feedback on it under `feedback`.

    A retried request is logged twice under one id and counts once; shadow predictions, which no user saw, never.
    """
    rows: dict[str, LogRecord] = {}
    truths: dict[str, LogRecord] = {}
    for record in sorted(records, key=itemgetter("time")):
        name = record["prediction_id"]
        if record.get("kind") == "prediction" and not record.get("shadow"):
            rows.setdefault(name, record)
        elif is_truth(record):
            truths[name] = record
    return [{**row, "feedback": truths.get(name)} for name, row in rows.items()]


def is_truth(record: LogRecord) -> bool:
    """Whether it is feedback of others: of a model's own feedback a model learns nothing but its mistakes."""
    return record["kind"] == "feedback" and record.get("source") not in ("model", "self")


def labelled(records: Iterable[LogRecord], known: frozenset[str] = frozenset()) -> list[Labelled]:
    """Rows to learn from, in order of time, each text once with the last truth about it, never the model's own."""
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


def is_own_replay(row: LogRecord, known: frozenset[str]) -> bool:
    """A row of the test set that a rollout sent in order to have any traffic."""
    return bool(row.get("replayed")) and str(row.get("text", "")) in known


def count_since(rows: Sequence[Labelled], moment: float) -> int:
    """How many labelled rows came after a moment (seconds since 1970)."""
    return sum(row["time"] > moment for row in rows)
