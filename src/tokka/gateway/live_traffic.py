"""The gateway's traffic as it is now: counters and histograms for Prometheus, and the last two minutes for people.

    live = LiveTraffic()
    Receiver(writer, observe=live.observe)
    live.exposition(gauges)              # the text of GET /metrics
    live.by_version(now)                 # requests per second, p50 and p99 of each version

Counted by version, route and status, as the gateway saw them: what a user waited, what a user got.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

KEPT_SECONDS = 120
WINDOW_SECONDS = 10
# Latencies kept for the percentiles of one second and version; more are counted, not kept.
KEPT_PER_SECOND = 400
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LABELS = ("version", "route", "status")
NOBODY = "none"


class Second:
    """What one version answered within one second: count, failures, latencies in milliseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self.latencies: list[float] = []

    def add(self, status: int, latency_ms: float) -> None:
        """Count one answer."""
        self.count += 1
        self.failed += status >= 500 or status <= 0
        if len(self.latencies) < KEPT_PER_SECOND:
            self.latencies.append(latency_ms)


class LiveTraffic:
    """Takes the gateway's records from one thread, and is read from others."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tokka_requests", "Requests that the gateway answered.", LABELS, registry=self._registry
        )
        self._latency = Histogram(
            "tokka_request_duration_seconds", "From the first byte of a request to the last of its answer.",
            LABELS, buckets=BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._stand_ins = Counter(
            "tokka_stand_ins", "Requests meant for the challenger that the champion answered.", registry=self._registry
        )
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[tuple[int, Second]]] = defaultdict(lambda: deque(maxlen=KEPT_SECONDS))
        self._assigned: deque[tuple[float, float, bool]] = deque(maxlen=20_000)

    def observe(self, record: Mapping[str, Any]) -> None:
        """Take one record of kind `request`; see gateway_log.parse."""
        version, status = str(record["version"]) or NOBODY, int(record["status"])
        labels = (version, str(record["route"]), str(status))
        self._requests.labels(*labels).inc()
        self._latency.labels(*labels).observe(record["latency_ms"] / 1000)
        if record["stand_in"]:
            self._stand_ins.inc()
        if record["route"] == "feedback":
            return
        with self._lock:
            self._second(version, int(record["time"])).add(status, float(record["latency_ms"]))
            self._assigned.append((float(record["time"]), float(record["share"]), bool(record["canary"])))

    def exposition(self, gauges: Collector | None = None) -> bytes:
        """Everything in Prometheus's text format, with the gauges of whoever knows more."""
        text: bytes = generate_latest(self._registry)
        if gauges is None:
            return text
        others = CollectorRegistry()
        others.register(gauges)
        more: bytes = generate_latest(others)
        return text + more

    def share_seen(self, share: float, now: float, seconds: float = 60.0) -> tuple[float, int] | None:
        """(observed share, requests) at a wanted share over the last seconds; None when there was no request."""
        with self._lock:
            sent = [
                canary for time, at, canary in self._assigned if time > now - seconds and abs(at - share) < 1e-6
            ]  # fmt: skip
        return (sum(sent) / len(sent), len(sent)) if sent else None

    def by_version(self, now: float) -> list[dict[str, Any]]:
        """Per version: requests per second, failures, p50 and p99 (ms) of the last ten seconds, and each second's."""
        with self._lock:
            known = {version: list(seconds) for version, seconds in self._seconds.items()}
        last = int(now) - 1
        rows = [_describe(version, dict(seconds), last) for version, seconds in sorted(known.items())]
        return [row for row in rows if any(row["rate_series"])]

    def _second(self, version: str, moment: int) -> Second:
        seconds = self._seconds[version]
        for known, second in reversed(seconds):
            # Datagrams come in the order of answers, whose times are those of their requests.
            if known == moment:
                return second
            if known < moment - KEPT_SECONDS:
                break
        seconds.append((moment, Second()))
        return seconds[-1][1]


def _describe(version: str, seconds: dict[int, Second], last: int) -> dict[str, Any]:
    window = [seconds[moment] for moment in range(last - WINDOW_SECONDS + 1, last + 1) if moment in seconds]
    latencies = sorted(latency for second in window for latency in second.latencies)
    moments = range(last - KEPT_SECONDS + 1, last + 1)
    empty = Second()
    return {
        "version": version,
        "per_second": round(sum(second.count for second in window) / WINDOW_SECONDS, 2),
        "failed": sum(second.failed for second in window),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "rate_series": [seconds.get(moment, empty).count for moment in moments],
        "p99_series": [quantile(sorted(seconds.get(moment, empty).latencies), 0.99) for moment in moments],
    }


def quantile(ordered: list[float], q: float) -> float | None:
    """The value that a share q of `ordered` does not exceed; None of nothing."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2)
