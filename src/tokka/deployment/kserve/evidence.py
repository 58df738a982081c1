"""What a rollout sees of live traffic on a cluster: requests as the pods count them, texts and labels as they log them.

A gateway of the cluster writes no line per request that we could read. So requests, failures and slow answers come from
the pods' counters, and the inputs of the shadow and the feedback from the archive of their request logs. Nothing is
judged before the split that the pods have counted agrees with the ordered one.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tokka.deployment.kserve.predictors import Outcome, Pod, Predictors
from tokka.deployment.record.clock import Clock
from tokka.deployment.rollout import ReadLog
from tokka.deployment.traffic_columns import LogRecord
from tokka.errors import TokkaError
from tokka.registry.model_uri import ModelUri
from tokka.request_log import archive
from tokka.request_log.log import Tail
from tokka.settings import Settings

# The archive is listed so often at most.
ARCHIVE_S = 10.0
# So many logged inputs are offered to the shadow at each look; it asks for fewer.
SAMPLE = 300
# Requests that wait for a reader: while nothing rolls out there is none, and a rollout asks for newer ones alone.
MOST_ROWS = 20_000
# Standard deviations, and requests: a sound split leaves the interval about once in 15,000 looks.
DEVIATIONS, SLACK = 4.0, 1.0

# Model address to what its pods have answered.
Counts = Mapping[str, Counter[Outcome]]


class Split(NamedTuple):
    """How many requests came, and how many of them to the challenger."""

    requests: int
    challenger: int

    @property
    def share(self) -> float:
        """The challenger's part."""
        return self.challenger / self.requests if self.requests else 0.0


def measured(counts: Counts, challenger: str) -> Split:
    """The split of what was counted; `challenger` is the address of its model."""
    return Split(sum(one.total() for one in counts.values()), counts.get(challenger, Counter()).total())


def fits(split: Split, share: float) -> bool:
    """Whether a split is within the binomial interval of a share."""
    expected = split.requests * share
    return abs(split.challenger - expected) <= DEVIATIONS * math.sqrt(expected * (1 - share)) + SLACK


def tells(requests: int, share: float) -> bool:
    """Whether so many requests would show a split in which the challenger gets nothing, or everything."""
    none, everything = Split(requests, 0), Split(requests, requests)
    return not (fits(none, share) or fits(everything, share)) if 0 < share < 1 else requests > SLACK


class Tally:
    """What pods have answered since a moment, though they come, go and start anew."""

    def __init__(self) -> None:
        self._last: dict[str, Counter[Outcome]] = {}

    def add(self, life: str, now: Counter[Outcome]) -> Counter[Outcome]:
        """What is new of a pod's life since the last look; nothing at the first, which may be long after its start."""
        before = self._last.get(life)
        self._last[life] = now
        return Counter() if before is None else now - before


class Ordered(NamedTuple):
    """The split that is in force: of which generation, the challenger's model (empty: none) and its share."""

    generation: int
    challenger: str
    share: float


class Meter:
    """Gathers requests in windows; only those of a window whose split agrees with the ordered one are given out."""

    def __init__(self, predictors: Predictors, clock: Clock, slow_ms: float) -> None:
        self._predictors, self._clock, self._slow_ms = predictors, clock, slow_ms
        self._tally, self._window = Tally(), dict[str, Counter[Outcome]]()
        self._ordered: Ordered | None = None
        self._rows: list[LogRecord] = []
        self._given = 0
        self.since = 0.0
        self.misfit: Split | None = None
        # Successes of a version that are told one by one, since a label came for them.
        self.told_apart: Counter[str] = Counter()

    def look(self, pods: Sequence[Pod], ordered: Ordered | None) -> None:
        """Count what came since the last look; `ordered` is None while the cluster does not split as it should yet."""
        new = self._count(pods)
        if ordered is None or ordered != self._ordered:
            # These requests came while the split changed: nobody knows by which one they were drawn.
            self._ordered, self._window, self.misfit, self.since = ordered, {}, None, self._clock.time()
            return
        for uri, counts in new.items():
            self._window[uri] = self._window.get(uri, Counter()) + counts
        split = measured(self._window, ordered.challenger)
        if tells(split.requests, ordered.share):
            self.misfit = None if fits(split, ordered.share) else split
            if self.misfit is None:
                self._rows = [*self._rows, *self._told(ordered)][-MOST_ROWS:]
            self._window = {}

    def take(self) -> list[LogRecord]:
        """The requests that have not been given yet."""
        rows, self._rows = self._rows, []
        return rows

    def _count(self, pods: Sequence[Pod]) -> dict[str, Counter[Outcome]]:
        found: dict[str, Counter[Outcome]] = {}
        for pod in pods:
            if pod.ready and pod.address:
                try:
                    now = self._predictors.counts(pod, self._slow_ms)
                except TokkaError:
                    continue
                found[pod.uri] = found.get(pod.uri, Counter()) + self._tally.add(pod.life, now)
        return found

    def _told(self, ordered: Ordered) -> list[LogRecord]:
        """The window as records of requests, mixed: all of one side first would mislead a bettor."""
        rows = [
            (uri, outcome)
            for uri, counts in sorted(self._window.items())
            for outcome in sorted(counts.elements())
            if not self._is_told_apart(uri, outcome)
        ]
        random.Random(self._given).shuffle(rows)
        return [self._record(ordered, uri, outcome) for uri, outcome in rows]

    def _is_told_apart(self, uri: str, outcome: Outcome) -> bool:
        version = ModelUri.parse(uri).version
        if outcome.status != 200 or outcome.slow or not self.told_apart[version]:
            return False
        self.told_apart[version] -= 1
        return True

    def _record(self, ordered: Ordered, uri: str, outcome: Outcome) -> LogRecord:
        self._given += 1
        slow = 2 * self._slow_ms if outcome.slow else 0.0
        facts = {"share": ordered.share, "assigned": uri == ordered.challenger, "version": ModelUri.parse(uri).version}
        name = f"counted-{self.since:.3f}-{self._given}"
        told = {"prediction_id": name, "time": self._clock.time(), "status": outcome.status, "latency_ms": slow}
        return {"kind": "request", "route": "predict", **told, **facts}

    def labelled(self, prediction: LogRecord) -> LogRecord | None:
        """The request of a prediction that a label came for; None when it was drawn by another split than today's."""
        ordered, version = self._ordered, str(prediction["version"])
        if ordered is None or float(str(prediction["time"])) < self.since:
            return None
        self.told_apart[version] += 1
        on_it = bool(ordered.challenger) and version == ModelUri.parse(ordered.challenger).version
        facts = {"share": ordered.share, "assigned": on_it, "version": version, "status": 200, "latency_ms": 0.0}
        told = {"prediction_id": prediction["prediction_id"], "time": self._clock.time(), "route": "predict"}
        return {"kind": "request", **told, **facts, "replayed": bool(prediction.get("replayed"))}


class ClusterLog:
    """A reader as a rollout opens one: what the pods have counted, and what the archive has of their logs.

    `read_archive` gives the archive's records that are new. Of predictions a sample is passed on, the newest first, as
    inputs of the shadow, and those that feedback came for: everything else is counted by the pods.
    """

    def __init__(self, meter: Meter, read_archive: ReadLog, clock: Clock, since: float) -> None:
        self._meter, self._archive, self._clock, self._since = meter, read_archive, clock, since
        self._due = 0.0
        # Those without feedback, the oldest first.
        self._predictions: dict[str, LogRecord] = {}

    def __call__(self) -> list[LogRecord]:
        """What is new; the archive's silence leaves out what it has, for now."""
        found = self._meter.take()
        if self._clock.monotonic() >= self._due:
            self._due = self._clock.monotonic() + ARCHIVE_S
            try:
                found += self._logged()
            except TokkaError:
                return found
        return found

    def _logged(self) -> list[LogRecord]:
        records = [one for one in self._archive() if float(str(one["time"])) >= self._since]
        new = [one for one in records if one["kind"] == "prediction" and not one.get("shadow")]
        self._predictions |= {str(one["prediction_id"]): one for one in new}
        told = [one for one in records if one["kind"] == "feedback"]
        # The first feedback on a prediction is the one that counts.
        known = [self._predictions.pop(str(one["prediction_id"]), None) for one in told]
        labelled = [one for one in known if one is not None]
        requests = [self._meter.labelled(one) for one in labelled]
        for name in list(self._predictions)[:-MOST_ROWS]:
            del self._predictions[name]
        return [*new[: -SAMPLE - 1 : -1], *labelled, *told, *(one for one in requests if one is not None)]


def read_archive(settings: Settings, since: float, endpoint: str) -> ReadLog:
    """What is new in the archive of the pods' request logs, from a moment on."""
    tail: Tail | None = None

    def read() -> Sequence[LogRecord]:
        nonlocal tail
        folder = archive.requests(settings, since, endpoint)
        tail = tail or Tail(folder, since)
        return tail.poll().records

    return read
