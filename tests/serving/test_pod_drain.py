"""A pod that ends while it is asked: two replicas behind a balancer that goes by their readiness, and no request fails.

The balancer asks nowhere again, so that each request that a worker loses is counted.
"""

import signal
import threading
import time
from collections import Counter

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.fixtures.envoy import Envoy, address, cluster, listener, routes_to
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.worker import LoneWorker
from tests.fixtures.world import NAME

DRAIN_S = 3.0


class Load:
    """Clients that keep their connection and ask again as soon as they are answered; `failed` says what went wrong."""

    def __init__(self, rest: int, grpc_port: int, clients: int = 3) -> None:
        self.answered, self.failed = Counter[tuple[str, str]](), list[str]()
        self._done = threading.Event()
        targets = [(self._rest, rest), (self._grpc, grpc_port)] * clients
        self._threads = [threading.Thread(target=run, args=(port,)) for run, port in targets]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def total(self) -> int:
        return self.answered.total()

    def _rest(self, port: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", **LOCAL) as client:
            while not self._done.wait(0.02):
                try:
                    said = client.post("/predict", json={"text": "where is my card?"})
                    self._note("REST", said.json().get("model_version", ""), said.status_code == 200, said.text)
                except httpx.HTTPError as error:
                    self.failed.append(f"REST: {error!r}")

    def _grpc(self, port: int) -> None:
        message = messages.ModelInferRequest(model_name=NAME)
        tensor = message.inputs.add(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"where is my card?")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._done.wait(0.02):
                try:
                    self._note("gRPC", stub.ModelInfer(message, timeout=PATIENCE_S).model_version, True)
                except grpc.RpcError as error:
                    self.failed.append(f"gRPC: {error.code()} {error.details()}")

    def _note(self, route: str, version: str, well: bool, text: str = "") -> None:
        if well:
            self.answered[route, version] += 1
        else:
            self.failed.append(f"{route}: {text}")


@pytest.fixture
def replicas(models, tmp_path):
    made = []
    for version in ("1", "2"):
        (folder := tmp_path / version).mkdir()
        made.append(LoneWorker(next(iter(models.values())), folder, version=version, drain_s=DRAIN_S))
    yield made
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.close()


@pytest.fixture
def ports(replicas, tmp_path):
    """Of REST and gRPC: an Envoy before the workers that say that they are ready."""
    ports = {"rest": free_port(), "grpc": free_port()}
    listeners = [
        listener(name, port, {"route_config": routes_to(name, {"cluster": name})}) for name, port in ports.items()
    ]
    facts = [one.facts for one in replicas]
    clusters = [balanced("rest", facts, "port", "http"), balanced("grpc", facts, "grpc_port", "http2")]
    with Envoy(tmp_path, {"listeners": listeners, "clusters": clusters}):
        yield tuple(ports.values())


def balanced(name, facts, key, protocol):
    endpoints = [
        {"endpoint": {"address": address(one[key]), "health_check_config": {"port_value": one["port"]}}}
        for one in facts
    ]
    check = {
        "timeout": "10s", "interval": "0.1s", "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 2, "healthy_threshold": 1,
        "http_health_check": {"path": "/v2/health/ready", "codec_client_type": "HTTP1"},
    }  # fmt: skip
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return cluster(name, "STATIC", protocol, health_checks=[check], load_assignment=assignment)


def test_a_pod_that_ends_loses_no_request(replicas, ports):
    first, _ = replicas
    every = [(route, version) for route in ("REST", "gRPC") for version in ("1", "2")]
    with Load(*ports) as load:
        wait_for(lambda: all(load.answered[one] > 20 for one in every), what=lambda: (load.answered, load.failed))
        began = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        wait_for(lambda: first.client.get("/v2/health/ready").status_code == 503, what="readiness to be off")
        # Whom nobody has told yet is answered, and told to connect anew.
        said = first.client.post("/predict", json={"text": "where is my card?"})
        assert (said.status_code, said.headers["connection"]) == (200, "close")
        assert first.client.get(f"/v2/models/{NAME}/ready").json() == {"name": NAME, "ready": False}
        assert not first.stub.ServerReady(messages.ServerReadyRequest()).ready
        assert first.client.get("/health").status_code == 200, "it lives: nobody must kill it"
        assert first.process.wait(PATIENCE_S) == 0
        lasted, before = time.monotonic() - began, load.total()
        wait_for(lambda: load.total() > before + 100, what=lambda: (load.answered, load.failed))
    print(f"{load.total()} answers, {len(load.failed)} failed, ended after {lasted:.1f} s")
    assert load.failed == []
    assert lasted >= DRAIN_S


def test_a_worker_that_has_no_drain_time_ends_at_once(models, tmp_path):
    worker = LoneWorker(next(iter(models.values())), tmp_path)
    began = time.monotonic()
    worker.close()
    assert worker.process.returncode == 0 and time.monotonic() - began < DRAIN_S
