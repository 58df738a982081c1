"""In the place of KServe's controller, where a cluster has none: Deployments and weights from InferenceServices.

with StandIn(namespace, image, verify_key) as standin: standin.url

It does what KServe 0.20 was seen to do in Standard mode: a canary that is not ready gets no traffic, a promoted canary
keeps its pods, a removed one loses them at once. An HAProxy beside the test draws by weight, and asks again elsewhere
when a pod broke off. For tests alone.
"""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fixtures.ports import free_port
from tokka.deployment.kserve.inference_service import OWNER
from tokka.deployment.kserve.predictors import SOURCE
from tokka.errors import TokkaError
from tokka.gateway.haproxy import find_haproxy
from tokka.kubernetes.api import INFERENCE_SERVICES, PODS, Kind, Object
from tokka.kubernetes.connection import Connection

DEPLOYMENTS = Kind("apps/v1", "deployments")
CONFIG_MAPS = Kind("v1", "configmaps")
STATUS = Kind("serving.kserve.io/v1beta1", "inferenceservices")
SLOTS = 12
LOOK_S = 0.3
ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definitions() -> list[Object]:
    """What makes a cluster look as if it had KServe and the Gateway API."""
    canary = {"type": "array", "items": ANY}
    spec = {**ANY, "properties": {"canary": canary}}
    service = {"type": "object", "properties": {"spec": spec, "status": ANY}}
    config = {"ingress": '{"enableGatewayApi": true}', "deploy": '{"defaultDeploymentMode": "Standard"}'}
    return [
        _definition("serving.kserve.io", "inferenceservices", "InferenceService", "v1beta1", service),
        _definition("gateway.networking.k8s.io", "httproutes", "HTTPRoute", "v1", ANY),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": config,
         "metadata": {"name": "inferenceservice-config", "namespace": "kserve"}},
    ]  # fmt: skip


def _definition(group: str, plural: str, kind: str, version: str, schema: Object) -> Object:
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    served = {
        "name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }  # fmt: skip
    spec = {"group": group, "names": names, "scope": "Namespaced", "versions": [served]}
    notes = {"api-approved.kubernetes.io": "unapproved, for a test"}
    meta = {"name": f"{plural}.{group}", "annotations": notes}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec}


class StandIn:
    """Looks at the InferenceServices of a namespace again and again until the end of the block."""

    def __init__(self, namespace: str, pod: Object, folder: Path) -> None:
        self._api, self._pod = Connection(namespace), pod
        self._proxy = Proxy(folder)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.url, self.host = self._proxy.url, ""
        # The proxy asks again.
        self.tries = 1
        self.troubles: list[str] = []

    def __enter__(self) -> "StandIn":
        self._proxy.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._proxy.stop()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                for service in self._api.list(INFERENCE_SERVICES, {}):
                    self._carry_out(service)
            except TokkaError as error:
                self.troubles.append(str(error))

    def _carry_out(self, service: Object) -> None:
        name, spec = service["metadata"]["name"], service["spec"]
        canaries = spec.get("canary") or []
        wanted = {self._name(name, one): one for one in [spec["predictor"], *(one["predictor"] for one in canaries)]}
        there = {one["metadata"]["name"]: one for one in self._api.list(DEPLOYMENTS, {OWNER: name})}
        for deployment in wanted.keys() - there.keys():
            self._api.create(DEPLOYMENTS, self._deployment(deployment, name, wanted[deployment]))
        for deployment in there.keys() - wanted.keys():
            self._api.delete(DEPLOYMENTS, deployment, there[deployment]["metadata"]["resourceVersion"])
        self._scale(name, spec["predictor"], canaries, service.get("status") or {}, there)
        pods = self._api.list(PODS, {OWNER: name})
        ready = {one: addresses(pods, one) for one in wanted}
        asked = {self._name(name, one["predictor"]): one.get("trafficPercent", 0) for one in canaries}
        percents = {one: percent if ready[one] else 0 for one, percent in asked.items()}
        stable = self._name(name, spec["predictor"])
        percents[stable] = 100 - sum(percents.values())
        self._proxy.split({address: percents[one] / len(found) for one, found in ready.items() for address in found})
        self._tell(service, canaries, ready, stable)

    def _scale(self, name: str, stable: Object, canaries: list[Object], seen: Object, there: dict[str, Object]) -> None:
        """As the real one does: what canaries that are ready have is taken from the predictor's pods, but for one."""
        ready = {one["name"] for one in seen.get("canaryStatuses") or () if one["ready"]}
        taken = sum(one["predictor"]["minReplicas"] for one in canaries if one["predictor"]["name"] in ready)
        replicas, deployment = max(stable["minReplicas"] - taken, 1), self._name(name, stable)
        if deployment in there and there[deployment]["spec"]["replicas"] != replicas:
            self._api.patch(DEPLOYMENTS, deployment, {"metadata": {}, "spec": {"replicas": replicas}})

    def _tell(self, service: Object, canaries: list[Object], ready: dict[str, list[str]], stable: str) -> None:
        name = service["metadata"]["name"]
        statuses = [
            {"name": one["predictor"]["name"], "ready": bool(ready[self._name(name, one["predictor"])]),
             "trafficPercent": one.get("trafficPercent", 0)}
            for one in canaries
        ]  # fmt: skip
        up = [{"type": "Ready", "status": str(bool(ready[stable]))}]
        # A Deployment's, as a real one's is.
        status: Object = {"observedGeneration": 1, "canaryStatuses": statuses, "conditions": up}
        status["address"] = {"url": f"http://{stable}.{self._api.namespace}.svc.cluster.local"}
        if service.get("status") != status:
            self._api.patch(STATUS, f"{name}/status", {"metadata": {}, "status": status})

    def _name(self, service: str, predictor: Object) -> str:
        return f"{service}-{predictor['name']}-predictor"

    def _deployment(self, name: str, service: str, predictor: Object) -> Object:
        uri, labels = predictor["model"]["storageUri"], {OWNER: service, "app": name}
        given = ("terminationGracePeriodSeconds", "securityContext", "automountServiceAccountToken")
        pod = {**self._pod, **{one: predictor[one] for one in given}}
        pod["initContainers"] = [{**one, "args": [uri, "/mnt/models"]} for one in pod["initContainers"]]
        env = predictor["model"]["env"]
        pod["containers"] = [{**one, "env": [*one.get("env", []), *env]} for one in pod["containers"]]
        meta = {"labels": labels, "annotations": {SOURCE: uri}}
        spec: Any = {
            "replicas": predictor["minReplicas"], "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": meta, "spec": pod},
        }  # fmt: skip
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
        }


def addresses(pods: list[Object], deployment: str) -> list[str]:
    """The ready pods of a Deployment; one that ends is none."""
    return [
        one["status"]["podIP"]
        for one in pods
        if one["metadata"]["labels"]["app"] == deployment and "deletionTimestamp" not in one["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions") or ())
    ]  # fmt: skip


class Proxy:
    """HAProxy with slots whose addresses and weights are set while it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket, self.port = folder, folder / "s", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._slots: dict[str, int] = {}
        self._set: dict[str, float] = {}

    def start(self) -> None:
        slots = "\n".join(f"    server s{number} 127.0.0.1:1 weight 0 disabled" for number in range(SLOTS))
        (self._folder / "haproxy.cfg").write_text(f"""
global
    stats socket {self._socket} mode 600 level admin
    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 30s
    timeout queue 5s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
frontend all
    bind 127.0.0.1:{self.port}
    default_backend pods
backend pods
    balance random(1)
{slots}
""")
        self._process = subprocess.Popen([find_haproxy(), "-f", str(self._folder / "haproxy.cfg")])
        deadline = time.monotonic() + 20
        while not self._socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def split(self, weights: dict[str, float]) -> None:
        """Address to percent; who is not named gets nothing new, and keeps its slot until it is needed."""
        if weights == self._set:
            return
        for address in [one for one in self._slots if one not in weights]:
            self._say(f"set server pods/s{self._slots.pop(address)} state drain")
        for address in weights:
            if address not in self._slots:
                free = next(number for number in range(SLOTS) if number not in self._slots.values())
                self._slots[address] = free
                self._say(f"set server pods/s{free} addr {address} port 8080")
        for address, percent in weights.items():
            self._say(f"set weight pods/s{self._slots[address]} {round(percent * 2)}")
            self._say(f"set server pods/s{self._slots[address]} state {'ready' if percent else 'drain'}")
        self._set = dict(weights)

    def _say(self, words: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{words}\n".encode())
            connection.recv(4096)


@contextlib.contextmanager
def installed(cluster: Any) -> Iterator[bool]:
    """A cluster with KServe: its own, or what stands in for it; whether it is the stand-in."""
    if "serving.kserve.io" in cluster.run("api-versions"):
        yield False
        return
    made = definitions()
    cluster.apply(made)
    names = [f"crd/{one['metadata']['name']}" for one in made[:2]]
    try:
        cluster.run("wait", "--for=condition=Established", *names, "--timeout=60s")
        yield True
    finally:
        cluster.run("delete", "--ignore-not-found", *names, "namespace/kserve", "--wait=false")
