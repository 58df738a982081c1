"""A predictor's pods asked one by one, off the gateway: predictions for the shadow, and what they have counted."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tokka.deployment.record.target import Answer, Question
from tokka.errors import TokkaError
from tokka.kubernetes import failures
from tokka.kubernetes.api import Object
from tokka.registry.model_uri import SCHEME

if TYPE_CHECKING:
    import httpx

PORT = 8080
# KServe writes there what the storage container is called with.
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
SHADOW = "x-tokka-shadow"
TIMEOUT_S, SCRAPE_S = 30.0, 2.0
REQUESTS, SECONDS = "tokka_requests_total", "tokka_request_duration_seconds_bucket"
ROUTE = "predict"


class Outcome(NamedTuple):
    """What requests have in common that are counted together."""

    status: int
    slow: bool


class Pod(NamedTuple):
    """A predictor's pod: which model it serves, where, and whether it is ready, or why not.

    `life` changes when it starts anew.
    """

    name: str
    life: str
    uri: str
    address: str
    ready: bool
    problem: str = ""


class Predictors(Protocol):
    """What asks pods; raises TokkaError when one does not answer."""

    def ask(self, pod: Pod, rows: Sequence[Question]) -> list[Answer]:
        """One answer a row; not logged as traffic."""

    def counts(self, pod: Pod, slow_ms: float) -> Counter[Outcome]:
        """The predictions that the pod has answered since its start."""


class HttpPredictors:
    """Asks over HTTP."""

    def ask(self, pod: Pod, rows: Sequence[Question]) -> list[Answer]:
        """As `Predictors`; TokkaError when the connection breaks off, which says nothing of the model."""
        import httpx

        with shadow_client() as client:
            try:
                return [ask_row(client, f"http://{pod.address}:{PORT}", row) for row in rows]
            except httpx.TransportError as error:
                raise TokkaError(f"pod {pod.name} broke off: {error}", "see kubectl get pods") from None

    def counts(self, pod: Pod, slow_ms: float) -> Counter[Outcome]:
        """As `Predictors`; from the pod's page /metrics."""
        import httpx

        try:
            page = httpx.get(f"http://{pod.address}:{PORT}/metrics", timeout=SCRAPE_S, trust_env=False, verify=False)
            page.raise_for_status()
        except httpx.HTTPError as error:
            raise TokkaError(f"pod {pod.name} shows no metrics: {error}", "see kubectl logs") from None
        return read_counts(page.text, slow_ms)


def read_counts(page: str, slow_ms: float) -> Counter[Outcome]:
    """Predictions by outcome from Prometheus's text; slow is what is above the smallest bucket that holds `slow_ms`."""
    from prometheus_client.parser import text_string_to_metric_families

    total: Counter[int] = Counter()
    buckets: dict[float, Counter[int]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels.get("route") != ROUTE:
                continue
            status = int(sample.labels["status"])
            if sample.name == REQUESTS:
                total[status] += int(sample.value)
            elif sample.name == SECONDS:
                buckets.setdefault(float(sample.labels["le"]) * 1000, Counter())[status] += int(sample.value)
    fast = buckets.get(min((edge for edge in buckets if edge >= slow_ms), default=0.0), total)
    slow = {Outcome(status, True): total[status] - fast[status] for status in total}
    return +Counter({**{Outcome(status, False): fast[status] for status in total}, **slow})


def pod_of(found: Object) -> Pod:
    """What matters of a pod; without a model's address for what is none of ours."""
    meta, spec, status = found["metadata"], found.get("spec", {}), found.get("status", {})
    given = [word for one in spec.get("initContainers") or () for word in one.get("args") or ()]
    named = [(meta.get("annotations") or {}).get(SOURCE, ""), *given]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    restarts = sum(one.get("restartCount", 0) for one in status.get("containerStatuses") or ())
    uri = next((word for word in named if word.startswith(SCHEME)), "")
    alive = ready and "deletionTimestamp" not in meta
    life, problem = f"{meta.get('uid', meta['name'])}/{restarts}", "" if ready else failures.of_pod(status)
    return Pod(meta["name"], life, uri, status.get("podIP", ""), alive, problem)


def ask_row(client: "httpx.Client", url: str, row: Question) -> Answer:
    """What a model server says to one row; raises httpx.TransportError when the connection breaks off."""
    import httpx

    began = time.perf_counter()
    try:
        response = client.post(f"{url}/predict", json=dict(row))
        latency = (time.perf_counter() - began) * 1000
        answer = response.json()
    except httpx.TimeoutException:
        return Answer(error=f"no answer within {TIMEOUT_S:g} s")
    except ValueError as error:
        return Answer(error=str(error))
    if response.status_code != 200:
        return Answer(error=f"{response.status_code}: {answer.get('error', '')}", latency_ms=latency)
    return Answer(
        label=answer.get("label", ""), value=answer.get("value"), score=answer.get("score"), latency_ms=latency
    )


def shadow_client(headers: Mapping[str, str] | None = None) -> "httpx.Client":
    """A client whose questions are no traffic; `headers` are more of them."""
    import httpx

    # Over plain HTTP no certificates need be loaded.
    return httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers={SHADOW: "1", **(headers or {})}, verify=False)
