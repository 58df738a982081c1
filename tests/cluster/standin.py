"""In the place of KServe's controller, where a cluster has none: Deployments and weights from InferenceServices.

with StandIn(namespace, image, verify_key) as standin: standin.url

It does what KServe 0.20 was seen to do in Standard mode: a canary that is not ready gets no traffic, a promoted canary
keeps its pods, a removed one loses them at once. An Envoy beside the test draws by weight, and asks again elsewhere
when a pod broke off. For tests alone.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fixtures.envoy import Envoy, address, cluster, listener, routes_to, watched
from tests.fixtures.ports import free_port
from tokka import files
from tokka.deployment.kserve.inference_service import OWNER
from tokka.deployment.kserve.predictors import SOURCE
from tokka.errors import TokkaError
from tokka.kubernetes.api import INFERENCE_SERVICES, PODS, Kind, Object
from tokka.kubernetes.connection import Connection

DEPLOYMENTS = Kind("apps/v1", "deployments")
CONFIG_MAPS = Kind("v1", "configmaps")
STATUS = Kind("serving.kserve.io/v1beta1", "inferenceservices")
LOOK_S = 0.3
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
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
        self._proxy.split(ready, percents)
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
    """Envoy, told by files which pods a Deployment has and its share of the requests, as KServe's routes have it."""

    def __init__(self, folder: Path) -> None:
        self._folder, port = folder, free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._known: dict[str, list[str]] = {}
        self._shares: dict[str, float] = {}
        routes = {"rds": {"route_config_name": "all", "config_source": watched(folder / "routes.json")}}
        clusters = {"resource_api_version": "V3", "path_config_source": {"path": str(folder / "clusters.json")}}
        self._route({})
        self._offer([])
        self._envoy = Envoy(folder, {"listeners": [listener("all", port, routes)]}, {"cds_config": clusters})

    def start(self) -> None:
        self._envoy.__enter__()

    def stop(self) -> None:
        self._envoy.__exit__()

    def split(self, ready: dict[str, list[str]], percents: dict[str, float]) -> None:
        """The addresses of each Deployment's pods, and its percent; who is not named gets nothing new."""
        for name, found in ready.items():
            if self._known.get(name) != found:
                self._write(f"{name}.json", [{"@type": ENDPOINTS, "cluster_name": name, **_endpoints(found)}])
        if ready.keys() - self._known.keys():
            self._offer(list({**self._known, **ready}))
        self._known |= ready
        if (shares := {name: percent for name, percent in percents.items() if percent}) != self._shares:
            self._route(shares)
            self._shares = shares

    def _offer(self, names: list[str]) -> None:
        found = [
            {"@type": CLUSTER, **cluster(name, "EDS", "http", eds_cluster_config={
                "eds_config": watched(self._folder / f"{name}.json")})}
            for name in names
        ]  # fmt: skip
        self._write("clusters.json", found)

    def _route(self, shares: dict[str, float]) -> None:
        weighted = [{"name": name, "weight": round(percent)} for name, percent in shares.items()]
        again = {"retry_on": "connect-failure,refused-stream,reset", "num_retries": 3}
        action = {"weighted_clusters": {"clusters": weighted}, "retry_policy": again}
        nobody = {"name": "all", "virtual_hosts": []}
        self._write("routes.json", [{"@type": ROUTES, **(routes_to("all", action) if weighted else nobody)}])

    def _write(self, name: str, resources: list[Object]) -> None:
        files.write_json(self._folder / name, {"resources": resources})


def _endpoints(found: list[str]) -> Object:
    return {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(8080, one)}} for one in found]}]}


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
