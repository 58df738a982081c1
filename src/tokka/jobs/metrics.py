"""Prometheus metrics of asynchronous jobs, read from their database, so that every consumer's work is in them."""

import itertools
from collections import Counter as Sums
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from tokka.errors import TokkaError
from tokka.jobs.job_store import JobStore
from tokka.jobs.tables import BOUNDS, NOBODY, Counter

EVENTS = ("accepted", "failed", "given_up")


class JobMetrics(Collector):
    """The collector of one endpoint's jobs; the database is opened by a collection, again until it answers."""

    def __init__(self, url: str, endpoint: str) -> None:
        self._url, self._endpoint = url, endpoint
        self._store: JobStore | None = None

    def collect(self) -> Iterator[Metric]:
        """Events by version, how many jobs wait and since when, and durations by version."""
        try:
            self._store = self._store or JobStore(self._url, self._endpoint)
            counters, waiting, age = self._store.counters(), self._store.waiting(), self._store.oldest()
        except (TokkaError, DBAPIError, OSError):
            yield _up(0)
            return
        yield _up(1)
        yield GaugeMetricFamily("tokka_jobs_waiting", "Jobs that were accepted and have no answer yet.", value=waiting)
        yield GaugeMetricFamily("tokka_jobs_oldest_seconds", "Since the oldest of them was accepted.", value=age)
        yield _events(counters)
        yield _durations([counter for counter in counters if counter.event == "done"])


def _up(value: int) -> Metric:
    return GaugeMetricFamily("tokka_jobs_database_up", "Whether the jobs' database answers.", value=value)


def _events(counters: Sequence[Counter]) -> Metric:
    # Zeros from the start: a rate over a series that begins at one misses the first event.
    sums = Sums({(event, NOBODY): 0 for event in EVENTS})
    for counter in counters:
        sums[counter.event, counter.version] += counter.count
    family = CounterMetricFamily("tokka_jobs", "What happened to jobs.", labels=["event", "version"])
    for labels, count in sorted(sums.items()):
        family.add_metric(labels, count)
    return family


def _durations(done: Sequence[Counter]) -> Metric:
    help_text = "From a job's acceptance to its answer."
    family = HistogramMetricFamily("tokka_job_duration_seconds", help_text, labels=["version"])
    for version in sorted({counter.version for counter in done}):
        own = [counter for counter in done if counter.version == version]
        counts = {counter.bound: counter.count for counter in own}
        # Prometheus' buckets are cumulative.
        totals = itertools.accumulate(counts.get(bound, 0) for bound in BOUNDS)
        buckets = list(zip(BOUNDS, totals, strict=True))
        family.add_metric([version], buckets, sum_value=sum(counter.seconds for counter in own))
    return family
