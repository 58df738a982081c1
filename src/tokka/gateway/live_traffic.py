"""The gateway's traffic now: counters and histograms for Prometheus, and the last two minutes for the admin page.

Counted by version, route and status as the gateway saw them, so that they are a user's latency and status.
"""

import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tokka.request_log.framing import LogRecord

KEPT_SECONDS = 120
WINDOW_SECONDS = 10
# Latencies kept of one second and version for the percentiles; more are only counted.
KEPT_PER_SECOND = 400
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LABELS = ("version", "route", "status")
NOBODY = "none"


@dataclass
class Second:
    """The answers of one version within one second: their number, failures, latencies in milliseconds."""

    count: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)

    def add(self, status: int, latency_ms: float) -> None:
        """Count one answer."""
        self.count += 1
        self.failed += status >= 500 or status <= 0
        if len(self.latencies) < KEPT_PER_SECOND:
            self.latencies.append(latency_ms)


class VersionTraffic(TypedDict):
    """Requests of one version: of the last ten seconds, and of each of the last 120 (`…_series`)."""

    version: str
    per_second: float
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    rate_series: list[int]
    p99_series: list[float | None]


class RequestMetrics:
    """Requests and their latency by version, route and status: the gateway's, or those of a model server in a pod."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter("tokka_requests", "Requests that were answered.", LABELS, registry=registry)
        self._latency = Histogram(
            "tokka_request_duration_seconds", "From the first byte of a request to the last of its answer.",
            LABELS, buckets=BUCKETS, registry=registry,
        )  # fmt: skip

    def count(self, version: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        labels = (version, route, str(status))
        self._requests.labels(*labels).inc()
        self._latency.labels(*labels).observe(seconds)

    def exposition(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)


class LiveTraffic:
    """Takes the gateway's records in one thread, and is read in others."""

    content_type = RequestMetrics.content_type

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._metrics = RequestMetrics(registry)
        self._stand_ins = Counter(
            "tokka_stand_ins", "Requests meant for the challenger that the champion answered.", registry=registry
        )
        self._lock = threading.Lock()
        self._seconds: dict[str, dict[int, Second]] = defaultdict(lambda: defaultdict(Second))
        self._assigned: deque[tuple[float, float, bool]] = deque(maxlen=20_000)

    def observe(self, record: LogRecord) -> None:
        """Take one record of kind `request`; see access_log.parse."""
        version, status = str(record["version"]) or NOBODY, int(record["status"])
        self._metrics.count(version, str(record["route"]), status, record["latency_ms"] / 1000)
        if record["stand_in"]:
            self._stand_ins.inc()
        if record["route"] == "feedback":
            return
        with self._lock:
            seconds = self._seconds[version]
            seconds[int(record["time"])].add(status, float(record["latency_ms"]))
            if len(seconds) > KEPT_SECONDS:
                del seconds[min(seconds)]
            self._assigned.append((float(record["time"]), float(record["share"]), bool(record["canary"])))

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format, with what other collectors have registered."""
        text: bytes = generate_latest(self.registry)
        return text

    def share_seen(self, share: float, now: float, seconds: float = 60.0) -> tuple[float, int] | None:
        """(observed share, requests) at a wanted share over the last seconds; None when there was no request."""
        with self._lock:
            assigned = list(self._assigned)
        sent = [canary for time, at, canary in assigned if time > now - seconds and abs(at - share) < 1e-6]
        return (sum(sent) / len(sent), len(sent)) if sent else None

    def by_version(self, now: float) -> list[VersionTraffic]:
        """Per version: requests per second, failures, p50 and p99 (ms) of the last ten seconds, and each second's."""
        with self._lock:
            known = {version: dict(seconds) for version, seconds in self._seconds.items()}
        rows = [_describe(version, seconds, int(now) - 1) for version, seconds in sorted(known.items())]
        return [row for row in rows if any(row["rate_series"])]


def _describe(version: str, seconds: dict[int, Second], last: int) -> VersionTraffic:
    series = [seconds.get(moment, Second()) for moment in range(last - KEPT_SECONDS + 1, last + 1)]
    window = series[-WINDOW_SECONDS:]
    latencies = [latency for second in window for latency in second.latencies]
    return {
        "version": version,
        "per_second": round(sum(second.count for second in window) / WINDOW_SECONDS, 2),
        "failed": sum(second.failed for second in window),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "rate_series": [second.count for second in series],
        "p99_series": [quantile(second.latencies, 0.99) for second in series],
    }


def quantile(values: list[float], q: float) -> float | None:
    """The value that a share q of `values` does not exceed; None of nothing."""
    return round(sorted(values)[min(len(values) - 1, int(q * len(values)))], 2) if values else None
