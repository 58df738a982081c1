"""The reconciler: of its replicas one leads, by a lease in the record's database, and looks after every endpoint.

The lease only keeps two from doing the same work. Should two believe that they lead, the record's compare-and-set and
the resource versions of the cluster still let one of them through.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app

from tokka.database import PATIENCE_S
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.leases import Leases, Lost
from tokka.deployment.record.record import Record
from tokka.deployment.record.wishes import RECONCILER, Wishes
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings

logger = logging.getLogger("tokka.reconciler")

LEASE_S, BEAT_S, TURN_S, TIDY_S = 20.0, 4.0, 2.0, 300.0
# A loop that has not turned for so long hangs.
STUCK_S = 120.0


class Work(Protocol):
    """What is done for one endpoint; `looked` is when a look at it was completed last, by the monotonic clock."""

    looked: float

    def turn(self) -> None:
        """Do what is to be done now; may take as long as a rollout does."""

    def tidy(self) -> None:
        """Do what is to be done now and then, beside `turn`."""


class Reconciler:
    """One replica, named `job`; `open_work` gives what looks after an endpoint."""

    def __init__(
        self, record: Record, job: str, open_work: Callable[[str], Work], clock: Clock = time
    ) -> None:  # fmt: skip
        self._record, self._job, self._open_work, self._clock = record, job, open_work, clock
        self._claims, self._threads = Claims(record), dict[str, list[threading.Thread]]()
        self._ended, self._led, self._beaten = threading.Event(), False, clock.monotonic()
        self.metrics = CollectorRegistry()
        self._leader = Gauge("tokka_reconciler_leader", "1 for the replica that leads.", registry=self.metrics)
        self._lag = Gauge(
            "tokka_reconciler_lag_seconds", "Since a look at an endpoint was last completed, in a rollout as well.",
            ["endpoint"], registry=self.metrics,
        )  # fmt: skip

    def run(self) -> None:
        """Until `end`; Lost when another replica has taken the lease, or it could not be renewed."""
        while not self._ended.is_set():
            if self.lead():
                self._look_after()
            self._ended.wait(BEAT_S if self._led else TURN_S)
        Leases(self._record).end(self._job, succeeded=True)

    def end(self) -> None:
        """Stop, and give the lease free; a rollout that is under way goes on with the next leader."""
        self._ended.set()

    def lead(self) -> bool:
        """Take or renew the lease; Lost when this replica had it and has it no more."""
        now = self._clock.monotonic()
        try:
            mine = self._claims.take(RECONCILER, self._job, seconds=LEASE_S)[0] == "mine"
        except TokkaError as error:
            logger.warning(error.message)
            if self._led and now - self._beaten > LEASE_S:
                raise Lost("the lease could not be renewed in time", "see the record's database") from None
            return False
        if self._led and not mine:
            raise Lost("another replica leads now", "this one starts anew")
        self._led, self._beaten = mine, now
        self._leader.set(mine)
        return mine

    def is_well(self) -> bool:
        """Whether the loop turns, whoever leads."""
        return self._clock.monotonic() - self._beaten < STUCK_S

    def _look_after(self) -> None:
        for endpoint in Wishes(self._record).endpoints():
            if endpoint not in self._threads:
                work = self._open_work(endpoint)
                self._lag.labels(endpoint).set_function(partial(self._lag_of, work))
                self._threads[endpoint] = [
                    self._start(endpoint, work.turn, TURN_S), self._start(endpoint, work.tidy, TIDY_S)
                ]  # fmt: skip

    def _lag_of(self, work: Work) -> float:
        return self._clock.monotonic() - work.looked

    def _start(self, endpoint: str, do: Callable[[], None], seconds: float) -> threading.Thread:
        # A daemon: whoever has lost the lease ends at once.
        thread = threading.Thread(target=self._keep_doing, args=(endpoint, do, seconds), daemon=True)
        thread.start()
        return thread

    def _keep_doing(self, endpoint: str, do: Callable[[], None], seconds: float) -> None:
        while not self._ended.is_set():
            try:
                do()
            except TokkaError as error:
                logger.warning("%s: %s", endpoint, error.message)
            except Exception:
                # One endpoint's trouble is not another's.
                logger.exception("%s: looking after it failed", endpoint)
            self._ended.wait(seconds)


def open_reconciler(params: Params, settings: Settings, namespace: str) -> Reconciler:
    """A replica that looks after the endpoints of this record on the InferenceServices of a namespace."""
    from tokka.deployment.kserve.endpoint import Endpoint
    from tokka.deployment.kserve.predictors import HttpPredictors
    from tokka.kubernetes.connection import Connection
    from tokka.registry.publish import open_registry

    record = Record(settings.record_url, patience_s=PATIENCE_S)
    api, predictors = Connection(namespace), HttpPredictors()

    def work(name: str) -> Endpoint:
        open_one = partial(open_registry, settings=settings)
        return Endpoint(name, record, params, settings, api, predictors, open_one, time)

    return Reconciler(record, f"{RECONCILER}-{socket.gethostname()}-{os.getpid()}", work)


def serve_health(reconciler: Reconciler, port: int, host: str = "0.0.0.0") -> WSGIServer:
    """Answer /healthz and /metrics on a thread; the kernel chooses the port for 0."""
    metrics = make_wsgi_app(reconciler.metrics)

    def application(environment: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        if environment["PATH_INFO"] == "/metrics":
            found: Iterable[bytes] = metrics(environment, respond)
            return found
        well = environment["PATH_INFO"] == "/healthz" and reconciler.is_well()
        respond("200 OK" if well else "503 Service Unavailable", [("content-type", "text/plain")])
        return [b"ok\n" if well else b"the loop does not turn\n"]

    server = make_server(host, port, application, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe that asks every few seconds would fill the log."""
