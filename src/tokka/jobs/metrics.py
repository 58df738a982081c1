"""What Prometheus reads of the jobs: how many were accepted and what became of them, how many wait, how long it took.

metrics = JobMetrics(settings.jobs_url, "helpdesk")
metrics.collect()

Read from the database that keeps the jobs, so that every consumer's work is in it, on whatever machine.
"""

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from tokka.errors import TokkaError
from tokka.jobs.job_store import Results
from tokka.jobs.tally import BEYOND, BOUNDS, NOBODY, Tally

EVENTS = ("accepted", "failed", "given_up")


class JobMetrics(Collector):
    """The collector of one endpoint's jobs.

    Args:
        url: of the database; it is opened when it is first asked, and asked again until it answers.
        endpoint: the name of the endpoint.
    """

    def __init__(self, url: str, endpoint: str) -> None:
        self._url, self._endpoint = url, endpoint
        self._results: Results | None = None

    def collect(self) -> Iterator[Metric]:
        """Counters by event and version, the jobs that wait, and durations by version."""
        try:
            self._results = self._results or Results(self._url, self._endpoint)
            tallies, waiting = self._results.tallies(), self._results.waiting()
        except (TokkaError, DBAPIError, OSError):
            yield _up(0)
            return
        yield _up(1)
        yield GaugeMetricFamily("tokka_jobs_waiting", "Jobs that were accepted and have no answer yet.", value=waiting)
        yield _events(tallies)
        yield _durations(tallies)


def _up(value: int) -> Metric:
    return GaugeMetricFamily("tokka_jobs_database_up", "Whether the jobs' database answers.", value=value)


def _events(tallies: list[Tally]) -> Metric:
    # What never happened is there as a zero: a rate over a series that begins at one misses the first.
    sums: dict[tuple[str, str], int] = defaultdict(int, {(event, NOBODY): 0 for event in EVENTS})
    for one in tallies:
        sums[one.event, one.version] += one.count
    family = CounterMetricFamily("tokka_jobs", "What happened to jobs.", labels=["event", "version"])
    for labels, count in sorted(sums.items()):
        family.add_metric(labels, count)
    return family


def _durations(tallies: list[Tally]) -> Metric:
    family = HistogramMetricFamily(
        "tokka_job_duration_seconds", "From a job's acceptance to its answer.", labels=["version"]
    )
    done = [one for one in tallies if one.event == "done"]
    for version in sorted({one.version for one in done}):
        found = {one.bound: one for one in done if one.version == version}
        buckets, total = [], 0
        for bound in (*BOUNDS, BEYOND):
            total += found[bound].count if bound in found else 0
            buckets.append((bound, total))
        family.add_metric([version], buckets, sum_value=sum(one.seconds for one in found.values()))
    return family
