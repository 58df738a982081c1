"""The requests of a long test as columns: a few hundred bytes for each, however long its text and the test are.

log = TrafficLog(folder, since=state.started, challenger="2", slow_ms=500)
traffic = log.poll()                # what evidence.traffic_of would make of every record so far
"""

import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokka.deployment.betting import Floats
from tokka.deployment.evidence import Traffic, number
from tokka.serving.request_log import Tail

COLUMNS = ("time", "predict", "status", "latency", "share", "assigned", "sent_by", "answered_by", "replayed",
           "label", "truth", "told", "key")  # fmt: skip


class TrafficLog:
    """Reads a request log on, and keeps of each request what a judge looks at.

    Args:
        folder: the request log.
        since: older records are left out (seconds since 1970).
        challenger: the version that the canary's requests were meant for.
        slow_ms: a slower answer counts as slow.
    """

    def __init__(self, folder: Path, *, since: float, challenger: str, slow_ms: float) -> None:
        self._tail = Tail(folder, since)
        self._slow_ms = slow_ms
        self._places: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._columns = {name: array("d") for name in COLUMNS}
        self._challenger = self._number_of(challenger)

    def poll(self) -> Traffic:
        """Every request so far, in the order of time; classes only, a value is neither right nor wrong here."""
        for record in self._tail.poll().records:
            self._take(record)
        return _judged({name: np.array(column) for name, column in self._columns.items()}, self._challenger,
                       self._slow_ms)  # fmt: skip

    def _take(self, record: Mapping[str, Any]) -> None:
        stem, dot, row = str(record["prediction_id"]).rpartition(".")
        several = bool(dot) and row.isdecimal()
        if several and row != "0":
            # One event per request: its first row stands for it.
            return
        place = self._place(stem if several else str(record["prediction_id"]))
        if record["kind"] == "feedback" and not math.isnan(self._columns["told"][place]):
            return
        for name, value in self._facts(record).items():
            self._columns[name][place] = value

    def _place(self, name: str) -> int:
        place = self._places.setdefault(name, len(self._places))
        if place == len(self._columns["time"]):
            for column in self._columns.values():
                column.append(math.nan)
        return place

    def _facts(self, record: Mapping[str, Any]) -> dict[str, float]:
        """What one record says about its request, as numbers."""
        if record["kind"] == "feedback":
            return {"truth": self._number_of(record.get("label")), "told": number(record.get("time"))}
        replayed = {"replayed": 1.0} if record.get("replayed") else {}
        if record["kind"] == "prediction":
            version = {"answered_by": self._number_of(record["version"])} if record.get("version") else {}
            return {"label": self._number_of(record.get("label")), **version, **replayed}
        version = {"sent_by": self._number_of(record["version"])} if record.get("version") else {}
        key = {"key": self._number_of(f"key {record['key']}")} if record.get("key") else {}
        return {
            "time": number(record.get("time")),
            "predict": float(record.get("route", "predict") == "predict"),
            "status": number(record.get("status")),
            "latency": number(record.get("latency_ms")),
            "share": number(record.get("share")),
            "assigned": float(bool(record.get("assigned", record.get("canary")))),
            **version,
            **replayed,
            **key,
        }

    def _number_of(self, name: Any) -> int:
        return self._names.setdefault(str(name), len(self._names))


def _judged(column: Mapping[str, Floats], challenger: int, slow_ms: float) -> Traffic:
    blamed = (column["status"] >= 400) & (column["status"] < 500)
    turned_away = blamed & ~np.isfinite(column["sent_by"])
    kept = np.flatnonzero((column["predict"] == 1) & ~turned_away)
    order = kept[np.argsort((column["time"] + column["latency"] / 1000.0)[kept], kind="stable")]
    here = {name: values[order] for name, values in column.items()}
    by = np.where(np.isfinite(here["sent_by"]), here["sent_by"], here["answered_by"])
    stand_in = (here["assigned"] == 1) & np.isfinite(by) & (by != challenger)
    failed = stand_in | ~((here["status"] >= 100) & (here["status"] < 500))
    known = np.isfinite(here["label"]) & np.isfinite(here["truth"])
    return Traffic(
        canary=here["assigned"],
        share=here["share"],
        failed=failed.astype(np.float64),
        slow=(~failed & (here["latency"] > slow_ms)).astype(np.float64),
        wrong=np.where(known, here["label"] != here["truth"], math.nan),
        replayed=(here["replayed"] == 1).astype(np.float64),
        refused=(~failed & (here["status"] >= 400)).astype(np.float64),
        key=np.where(np.isfinite(here["key"]), here["key"], -1.0 - np.arange(order.size)),
        told=np.where(known, here["told"], math.nan),
    )
