"""The requests of a rollout as columns: a few hundred bytes for each, however long its text and the test are."""

import math
import time
from array import array
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tokka.deployment.judge.e_processes import Floats
from tokka.deployment.judge.evidence import Traffic, number
from tokka.request_log import log

LogRecord = Mapping[str, object]
KINDS = ("request", "prediction", "feedback")
COLUMNS = ("time", "predict", "status", "latency_ms", "share", "assigned", "sent_by", "answered_by", "replayed",
           "label", "truth", "told", "key", "runs", "excused", "refused", "aborted", "caller", "giver")  # fmt: skip
# Feedback that comes later than this is about another world.
FEEDBACK_S = 7 * 86_400.0
# Of classes, where none was renamed, merged or retired.
NO_CHANGE: Mapping[str, str] = MappingProxyType({})


def read_last(home: Path, hours: float, slow_ms: float) -> tuple[Traffic, float]:
    """The requests of the last hours in a home's request log, and how many hours they are of: a young log has fewer."""
    now = time.time()
    records = log.read(home / "requests", since=now - hours * 3600.0)
    columns = TrafficColumns(challenger="", slow_ms=slow_ms)
    columns.take(records)
    seen = (now - number(records[0].get("time"))) / 3600.0 if records else hours
    return columns.traffic(), max(min(hours, seen), 1 / 60)


def said(record: LogRecord, classes: Collection[str], renamed: Mapping[str, str] = NO_CHANGE) -> str | float | None:
    """The value that a prediction or feedback tells, or its label if among `classes` (empty: any); None for neither.

    `renamed`: what became of classes (`data.labels`), so that an old name is the new one; one that is retired stays.
    """
    if record.get("value") is not None:
        return number(record["value"])
    label = record.get("label")
    label = renamed.get(label) or label if isinstance(label, str) else None
    return label if label is not None and (not classes or label in classes) else None


class TrafficColumns:
    """Keeps of each request what a judge looks at.

    The canary's requests were meant for `challenger`. When another version had to answer (the champion's workers stand
    in for a dead challenger) the user saw no failure, and the challenger failed. An answer that takes longer than
    `slow_ms` is slow; a value is wrong when it is off by more than `scale`, None for classes; `classes` and `renamed`
    as for `said`.
    """

    def __init__(
        self, *, challenger: str, slow_ms: float, scale: float | None = None, classes: Collection[str] = (),
        renamed: Mapping[str, str] = NO_CHANGE,
    ) -> None:  # fmt: skip
        self._slow_ms, self._scale, self._classes, self._renamed = slow_ms, scale, classes, renamed
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
        if self._is_settled(record, place):
            return
        for column_name, value in self._facts(record).items():
            self._columns[column_name][place] = value

    def _is_settled(self, record: LogRecord, place: int) -> bool:
        """What was logged stays: the first line of each kind counts, and of feedback the first that is trusted."""
        column = {name: self._columns[name][place] for name in ("time", "answered_by", "told", "giver")}
        if record["kind"] == "feedback":
            return not math.isnan(column["told"]) and (math.isnan(column["giver"]) or bounded_caller(record) != "")
        return not math.isnan(column["time" if record["kind"] == "request" else "answered_by"])

    def _said(self, record: LogRecord) -> float:
        """A class as a number of its own, or the value; NaN for what says nothing about an answer."""
        found = said(record, self._classes, self._renamed)
        if self._scale is None:
            return self._number_of(found) if isinstance(found, str) else math.nan
        return found if isinstance(found, float) else math.nan

    def _facts(self, record: LogRecord) -> dict[str, float]:
        """What one record says about its request, as numbers; what it does not say is left out."""
        if record["kind"] == "feedback":
            truth = self._said(record)
            giver = self._caller(record)
            return {"truth": truth, "told": number(record.get("time")), "giver": giver} if math.isfinite(truth) else {}
        facts = {"replayed": 1.0} if record.get("replayed") else {}
        if record.get("version"):
            by = "sent_by" if record["kind"] == "request" else "answered_by"
            facts[by] = self._number_of(record["version"])
        if record["kind"] == "prediction":
            return facts | {"label": self._said(record), "runs": number(record.get("runs", 1))}
        if record.get("key"):
            facts["key"] = self._number_of(f"key {record['key']}")
        facts["predict"] = float(record.get("route", "predict") == "predict")
        facts |= {"excused": float(is_excused(record)), "aborted": float(bool(record.get("aborted")))}
        # Of a request that both sides could treat alike.
        facts["refused"] = float(is_excused(record) and not is_excused({**record, "status": 200}))
        facts["caller"] = math.nan if record.get("replayed") else self._caller(record)
        facts["assigned"] = float(bool(record.get("assigned", record.get("canary"))))
        return facts | {name: number(record.get(name)) for name in ("time", "status", "latency_ms", "share")}

    def _caller(self, record: LogRecord) -> float:
        """Whose weight is bounded, as a number; NaN for whom we trust."""
        name = bounded_caller(record)
        return float(self._number_of(name)) if name else math.nan

    def _number_of(self, name: object) -> int:
        return self._names.setdefault(str(name), len(self._names))


def bounded_caller(record: LogRecord) -> str:
    """The caller, where its word counts as far as others say the same; all of whom nothing is known are one caller."""
    bounded = record.get("client") is not None and not record.get("trusted")
    return f"caller {record['client']}" if bounded else ""


def is_excused(request: LogRecord) -> bool:
    """Whether a request's outcome says nothing of who answered it: the two sides may treat it differently, and rightly.

    It named a version, which only one side has, however that was packed. The client broke off, or was refused for a
    mistake of its own (4xx): what is too long for one tokenizer is not for another. All were busy: the load's doing.
    """
    status = number(request.get("status"))
    return bool(request.get("named") or request.get("shed") or request.get("aborted")) or 400 <= status < 500


def _judged(column: Mapping[str, Floats], challenger: int, slow_ms: float, scale: float | None) -> Traffic:
    # What the gateway itself refuses, no model server's version on it, is no evidence for or against anybody.
    blamed = (column["status"] >= 400) & (column["status"] < 500)
    turned_away = blamed & ~np.isfinite(column["sent_by"]) & ~(column["aborted"] == 1)
    kept = np.flatnonzero((column["predict"] == 1) & ~turned_away)
    # An answer that took long is logged late: put before what was judged already, it would change the past.
    order = kept[np.argsort((column["time"] + column["latency_ms"] / 1000.0)[kept], kind="stable")]
    here = {name: values[order] for name, values in column.items()}
    # Where the split sent it counts, not who answered: only the split is random.
    by = np.where(np.isfinite(here["sent_by"]), here["sent_by"], here["answered_by"])
    stand_in = (here["assigned"] == 1) & np.isfinite(by) & (by != challenger)
    excused = here["excused"] == 1
    failed = ~excused & (stand_in | ~((here["status"] >= 100) & (here["status"] < 500)))
    # How many rows a request has, and how many wait before it, is the callers' choice.
    late = here["latency_ms"] > slow_ms * np.fmax(here["runs"], 1.0)
    # Who waited in vain did not go away by itself.
    slow = late & ~failed & (~excused | (here["aborted"] == 1))
    apart = np.abs(here["label"] - here["truth"])
    known = np.isfinite(apart) & (here["told"] - here["time"] <= FEEDBACK_S)
    return Traffic(
        canary=here["assigned"],
        share=here["share"],
        failed=failed.astype(np.float64),
        slow=slow.astype(np.float64),
        wrong=np.where(known, apart > (scale or 0.0), math.nan),
        replayed=(here["replayed"] == 1).astype(np.float64),
        refused=(here["refused"] == 1).astype(np.float64),
        excused=excused.astype(np.float64),
        caller=here["caller"],
        giver=np.where(known, here["giver"], math.nan),
        key=np.where(np.isfinite(here["key"]), here["key"], -1.0 - np.arange(order.size)),
        told=np.where(known, here["told"], math.nan),
    )
