"""The requests of a rollout as columns: a few hundred bytes for each, however long its text and the test are."""

import math
from array import array
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.judge.evidence import Traffic, number

LogRecord = Mapping[str, object]
KINDS = ("request", "prediction", "feedback")
COLUMNS = ("time", "predict", "status", "latency_ms", "share", "assigned", "sent_by", "answered_by", "replayed",
           "label", "truth", "told", "key")  # fmt: skip


def said(record: LogRecord, classes: Collection[str]) -> str | float | None:
    """The value or the label of a prediction or of feedback; None for neither.

    Args:
        classes: labels that a model may give; any other tells nothing of it. Empty: all are.
    """
    if record.get("value") is not None:
        return number(record["value"])
    label = record.get("label")
    return label if isinstance(label, str) and (not classes or label in classes) else None


class TrafficColumns:
    """Keeps of each request what a judge looks at.

    Args:
        challenger: the version that the canary's requests were meant for. When another one had to answer (the
            champion's workers stand in for a dead challenger) the user saw no failure, and the challenger failed.
        slow_ms: a slower answer counts as slow.
        scale: a value is wrong when it is off by more than this; None for classes.
        classes: as for `said`.
    """

    def __init__(
        self, *, challenger: str, slow_ms: float, scale: float | None = None, classes: Collection[str] = ()
    ) -> None:
        self._slow_ms, self._scale, self._classes = slow_ms, scale, classes
        self._places: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._columns = {name: array("d") for name in COLUMNS}
        self._challenger = self._number_of(challenger)

    def take(self, records: Iterable[LogRecord]) -> None:
        """Add what these lines of the request log say, in whatever order they come."""
        for record in records:
            if record.get("kind") in KINDS and record.get("prediction_id"):
                self._take(record)

    def traffic(self, since: float = -math.inf, until: float = math.inf) -> Traffic:
        """Requests that came between two moments, in the order in which they ended."""
        columns = {name: np.array(column) for name, column in self._columns.items()}
        time = columns["time"]
        columns["predict"] *= ~((time < since) | (time >= until))
        return _judged(columns, self._challenger, self._slow_ms, self._scale)

    def _take(self, record: LogRecord) -> None:
        name = str(record["prediction_id"])
        stem, _, row = name.rpartition(".")
        if stem and row.isdecimal():
            if row != "0":
                return  # One event per request: its first row stands for it.
            name = stem
        place = self._places.setdefault(name, len(self._places))
        if place == len(self._columns["time"]):
            for column in self._columns.values():
                column.append(math.nan)
        if record["kind"] == "feedback" and not math.isnan(self._columns["told"][place]):
            return
        for column_name, value in self._facts(record).items():
            self._columns[column_name][place] = value

    def _said(self, record: LogRecord) -> float:
        """A class as a number of its own, or the value; NaN for what says nothing about an answer."""
        found = said(record, self._classes)
        if self._scale is None:
            return self._number_of(found) if isinstance(found, str) else math.nan
        return found if isinstance(found, float) else math.nan

    def _facts(self, record: LogRecord) -> dict[str, float]:
        """What one record says about its request, as numbers; what it does not say is left out."""
        if record["kind"] == "feedback":
            truth = self._said(record)
            return {"truth": truth, "told": number(record.get("time"))} if math.isfinite(truth) else {}
        facts = {"replayed": 1.0} if record.get("replayed") else {}
        if record.get("version"):
            by = "sent_by" if record["kind"] == "request" else "answered_by"
            facts[by] = self._number_of(record["version"])
        if record["kind"] == "prediction":
            return facts | {"label": self._said(record)}
        if record.get("key"):
            facts["key"] = self._number_of(f"key {record['key']}")
        facts["predict"] = float(record.get("route", "predict") == "predict")
        facts["assigned"] = float(bool(record.get("assigned", record.get("canary"))))
        return facts | {name: number(record.get(name)) for name in ("time", "status", "latency_ms", "share")}

    def _number_of(self, name: object) -> int:
        return self._names.setdefault(str(name), len(self._names))


def _judged(column: Mapping[str, Floats], challenger: int, slow_ms: float, scale: float | None) -> Traffic:
    # What the gateway itself refuses, no model server's version on it, is no evidence for or against anybody.
    blamed = (column["status"] >= 400) & (column["status"] < 500)
    turned_away = blamed & ~np.isfinite(column["sent_by"])
    kept = np.flatnonzero((column["predict"] == 1) & ~turned_away)
    # An answer that took long is logged late: put before what was judged already, it would change the past.
    order = kept[np.argsort((column["time"] + column["latency_ms"] / 1000.0)[kept], kind="stable")]
    here = {name: values[order] for name, values in column.items()}
    # Where the split sent it counts, not who answered: only the split is random.
    by = np.where(np.isfinite(here["sent_by"]), here["sent_by"], here["answered_by"])
    stand_in = (here["assigned"] == 1) & np.isfinite(by) & (by != challenger)
    failed = stand_in | ~((here["status"] >= 100) & (here["status"] < 500))
    apart = np.abs(here["label"] - here["truth"])
    known = np.isfinite(apart)
    return Traffic(
        canary=here["assigned"],
        share=here["share"],
        failed=failed.astype(np.float64),
        slow=(~failed & (here["latency_ms"] > slow_ms)).astype(np.float64),
        wrong=np.where(known, apart > (scale or 0.0), math.nan),
        replayed=(here["replayed"] == 1).astype(np.float64),
        refused=(~failed & (here["status"] >= 400)).astype(np.float64),
        key=np.where(np.isfinite(here["key"]), here["key"], -1.0 - np.arange(order.size)),
        told=np.where(known, here["told"], math.nan),
    )
