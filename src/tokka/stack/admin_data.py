"""What the admin page and /metrics show: the daemon's last word, live traffic, the judge, decisions, reports."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tokka.deployment import rollout_files
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.errors import TokkaError
from tokka.gateway.live_traffic import LiveTraffic
from tokka.settings import Settings
from tokka.stack.state_file import StackInfo

DECISIONS = 8
KEPT_LOOKS = 240
# An older look is of a driver that has died; a living one may replay traffic for a while between two looks.
FRESH_SECONDS = 60.0
CACHE_SECONDS = 1.0
ROLES = ("champion", "challenger", "previous")
# Reports by folder: written by the pipeline's tasks, whose artifacts have no ending, and beside a rollout.
REPORTS = {"runs": "*/artifacts/*/*/*", "rollouts": "*/*.html"}
REPORT_TITLES = {
    "report": "evaluation report",
    "drift": "drift report",
    "predictions": "what both said in the shadow, by Evidently",
    "predictions_live": "what both said live, by Evidently",
    "docs": "data docs",
}
REPORTS_SHOWN = 8


class EValue(TypedDict):
    """A metric's evidence, where that decides, and its values in the phase, the oldest first."""

    metric: str
    e_value: float
    limit: float
    path: list[float | None]


class Judgement(TypedDict):
    """The last look of a rollout; `since` in seconds since 1970, `share` in [0, 1]."""

    version: str
    phase: str
    share: float
    since: float
    reasons: list[str]
    metrics: list[EValue]


class Report(TypedDict):
    """A report: its name below the home, what it is, and its time in seconds since 1970."""

    name: str
    title: str
    time: float


class AdminData(Collector):
    """Also the collector of the gauges that Prometheus reads."""

    def __init__(self, settings: Settings, record: Record, live: LiveTraffic) -> None:
        self.live, self._settings, self._record = live, settings, record
        live.registry.register(self)
        # Each is replaced at once, never changed: other threads read them.
        self._told: tuple[StackInfo, State] | None = None
        self._looks: tuple[rollout_files.Look, ...] = ()
        self._cached: tuple[float, dict[str, object]] = (0.0, {})

    def tell(self, info: StackInfo, state: State) -> None:
        """Take the daemon's last word, and the judge's."""
        self._told, found = (info, state), rollout_files.read(self._settings.home)
        if found is None or found.get("rollout") != state.rollout:
            return
        looks = self._looks if self._looks and self._looks[-1]["rollout"] == state.rollout else ()
        if not looks or looks[-1]["time"] != found["time"]:
            self._looks = (*looks[1 - KEPT_LOOKS :], found)

    def status(self) -> dict[str, object]:
        """Everything that the page shows."""
        now = time.time()
        if self._told is None:
            return {"time": now, "starting": True}
        info, state = self._told
        seen = self.live.share_seen(state.share, now) if state.share else None
        return {
            "time": now,
            "endpoint": state.endpoint,
            "address": info.endpoint,
            "mlflow": info.mlflow,
            "record": state.model_dump(),
            "revisions": [_revision(role, state, info) for role in ROLES if getattr(state, role)],
            "split": {"wanted": state.share, "in_force": info.share, "seen": seen[0] if seen else None,
                      "requests": seen[1] if seen else 0},
            "workers": {"restarts": info.restarts},
            "unlogged": info.unlogged,
            "problems": list(info.problems),
            "traffic": self.live.by_version(now),
            "judge": _judge(self._looks, state, now),
            **self._slow_facts(state.endpoint),
        }  # fmt: skip

    def collect(self) -> Iterator[Metric]:
        """Shares, workers, generation, e-values and thresholds as gauges."""
        if self._told is None:
            return
        info, state = self._told
        seen = self.live.share_seen(state.share, time.time()) if state.share else None
        shares = {("wanted",): state.share, ("in_force",): info.share, **({("observed",): seen[0]} if seen else {})}
        named = {role: revision for role in ROLES if (revision := getattr(state, role))}
        ready = {(revision.version, role): _ready(revision.digest, info) for role, revision in named.items()}
        yield _gauges("tokka_share", "The challenger's share of live traffic.", ["kind"], shares.items())
        yield _gauges("tokka_generation", "The record's generation in force.", [], [((), info.generation)])
        yield _gauges("tokka_worker_restarts", "Workers that were replaced.", [], [((), info.restarts)])
        yield _gauges("tokka_workers_ready", "Workers that answer.", ["version", "role"], ready.items())
        unlogged = CounterMetricFamily("tokka_unlogged", "What the request log could not take.", labels=["kind"])
        for kind, count in info.unlogged.items():
            unlogged.add_metric([kind], count)
        yield unlogged
        yield from _judge_gauges(_judge(self._looks, state, time.time()))
        yield from self._retrainings(state.endpoint)

    def _retrainings(self, endpoint: str) -> Iterator[Metric]:
        try:
            counts = Counter((one.cause, one.outcome) for one in Attempts(self._record).all(endpoint))
        except TokkaError:
            return
        text = "Retrainings that are under way or came to something."
        yield _gauges("tokka_retrainings", text, ["cause", "outcome"], counts.items())

    def _slow_facts(self, endpoint: str) -> dict[str, object]:
        """What costs a look at the disk, once a second at most."""
        at, known = self._cached
        if time.monotonic() - at < CACHE_SECONDS and known:
            return known
        try:
            decisions = self._record.decisions(endpoint, limit=DECISIONS)
        except TokkaError as error:
            decisions = [{"time": time.time(), "action": "unreadable", "reasons": [error.message]}]
        found = {"decisions": decisions, "reports": reports(self._settings.home)}
        self._cached = (time.monotonic(), found)
        return found


def _revision(role: str, state: State, info: StackInfo) -> dict[str, object]:
    revision = getattr(state, role)
    workers = [worker for worker in info.workers if worker.digest == revision.digest]
    return {
        "role": role,
        "version": revision.version,
        "digest": revision.digest,
        "ready": _ready(revision.digest, info),
        "workers": len(workers),
        "page": f"{info.mlflow}/#/models/{state.endpoint}/versions/{revision.version}" if info.mlflow else "",
    }


def _ready(digest: str, info: StackInfo) -> int:
    return sum(worker.digest == digest and worker.ready for worker in info.workers)


def _judge(looks: Sequence[rollout_files.Look], state: State, now: float) -> Judgement | None:
    """The last look of the rollout that runs, with the path of each e-value in its present phase."""
    if not looks or state.phase == "idle":
        return None
    last = looks[-1]
    if last["rollout"] != state.rollout or now - last["time"] > FRESH_SECONDS:
        return None
    same = [look["values"] for look in looks if look["phase"] == last["phase"]]
    metrics: list[EValue] = [
        {"metric": name, "e_value": value, "limit": limit, "path": [values.get(name) for values in same]}
        for name, (value, limit) in rollout_files.e_values(last["values"]).items()
    ]
    return {
        "version": last["version"], "phase": last["phase"], "share": last["share"], "since": last["since"],
        "reasons": last["reasons"], "metrics": metrics,
    }  # fmt: skip


def _judge_gauges(judge: Judgement | None) -> Iterator[Metric]:
    labels = ["version", "phase", "metric"]
    rows = [((judge["version"], judge["phase"], one["metric"]), one) for one in judge["metrics"]] if judge else []
    values, limits = [(key, one["e_value"]) for key, one in rows], [(key, one["limit"]) for key, one in rows]
    yield _gauges("tokka_judge_e_value", "Evidence of the judge of a running rollout.", labels, values)
    yield _gauges("tokka_judge_e_value_threshold", "Where that evidence decides.", labels, limits)


def _gauges(name: str, text: str, labels: list[str], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in rows:
        family.add_metric(list(key), value)
    return family


def reports(home: Path) -> list[Report]:
    """The newest reports, the newest first."""
    every = [path for folder, pattern in REPORTS.items() for path in (home / folder).glob(pattern)]
    found = [path for path in every if report_path(home, path.relative_to(home).as_posix())]
    newest = sorted(found, key=_time, reverse=True)[:REPORTS_SHOWN]
    return [{"name": path.relative_to(home).as_posix(), "title": _title(path), "time": _time(path)} for path in newest]


def report_path(home: Path, name: str) -> Path | None:
    """The file of a report that `reports` could name; None for anything else below the home or beside it."""
    path, parts = home / name, Path(name).parts
    if not parts or parts[0] not in REPORTS or ".." in parts or not _is_report(path):
        return None
    return path if path.resolve().is_relative_to(home.resolve()) else None


def _title(path: Path) -> str:
    # The step's folder tells the two reports of a run apart.
    return REPORT_TITLES["drift"] if path.parent.name == "detect-drift" else REPORT_TITLES[path.stem]


def _is_report(path: Path) -> bool:
    return path.stem in REPORT_TITLES and path.suffix in ("", ".html") and path.is_file()


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
