"""A cluster's own KServe in Standard mode: what it makes our predictors of, and the way in through its gateway.

with RealKServe(cluster, namespace, image, mlflow) as kserve: kserve.url, kserve.host   # once a version serves

TOKKA_TEST_GATEWAY   the gateway as this process reaches it ("http://10.0.0.7:8080"), where its status names no address

The runtime and the storage container `tokka` of infra/kubernetes are of the whole cluster: those that it had are put
back.
"""

import json
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.cluster.conftest import variable
from tests.cluster.kubectl import Cluster
from tests.manifests.objects import Object

COMPONENT = Path(__file__).parents[2] / "infra/kubernetes/components/serving"
GIVEN = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields")


class RealKServe:
    """Has what the stand-in has.

    tries: Envoy asks nobody again when a pod was killed, unless a policy of the cluster's says so. What is asked again
    because of anything else, the test finds.
    """

    tries = 5

    def __init__(self, cluster: Cluster, namespace: str, image: str, mlflow: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._ours = serving_objects(namespace, image, mlflow)
        self._before: list[Object] = []
        # The controller keeps them to itself.
        self.troubles: list[str] = []

    def __enter__(self) -> "RealKServe":
        words = ["--ignore-not-found", "-o", "json"]
        found = [self._cluster.run("get", *_name(one), *words) for one in self._ours]
        self._before = [_as_given(json.loads(one)) for one in found if one.strip()]
        self._cluster.apply(self._ours)
        return self

    def __exit__(self, *_: object) -> None:
        kept = [_name(one) for one in self._before]
        for one in self._ours:
            if _name(one) not in kept:
                self._cluster.run("delete", *_name(one), "--ignore-not-found")
        if self._before:
            self._cluster.run("replace", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": self._before})

    @property
    def host(self) -> str:
        """By which the gateway knows the InferenceService."""
        services = self._cluster.get(self._namespace, "inferenceservices.serving.kserve.io")
        return urlsplit(services[0]["status"]["url"]).netloc

    @property
    def url(self) -> str:
        """Where the gateway of its route listens."""
        routes = self._cluster.get(self._namespace, "httproutes.gateway.networking.k8s.io")
        parent = next(one for one in routes if self.host in one["spec"]["hostnames"])["spec"]["parentRefs"][0]
        gateway = self._gateway(parent["name"], parent.get("namespace", self._namespace))
        addresses = gateway.get("status", {}).get("addresses") or []
        if not addresses:
            return variable("TOKKA_TEST_GATEWAY")
        listener = next(one for one in gateway["spec"]["listeners"] if one["protocol"] == "HTTP")
        return f"http://{addresses[0]['value']}:{listener['port']}"

    def _gateway(self, name: str, namespace: str) -> Object:
        found = self._cluster.get(namespace, "gateways.gateway.networking.k8s.io")
        return next(one for one in found if one["metadata"]["name"] == name)


def serving_objects(namespace: str, image: str, mlflow: str) -> list[Object]:
    """The component `serving` with this image and this MLflow, its disruption budget in the test's namespace."""
    names = ("runtime", "storage", "disruption")
    runtime, storage, budget = (yaml.safe_load((COMPONENT / f"{name}.yaml").read_text()) for name in names)
    for container in (runtime["spec"]["containers"][0], storage["spec"]["container"]):
        container["image"] = image
    for one in storage["spec"]["container"]["env"]:
        if one["name"] == "TOKKA_TRACKING_URI":
            one["value"] = mlflow
    budget["metadata"]["namespace"] = namespace
    return [runtime, storage, budget]


def _name(one: Object) -> tuple[str, ...]:
    meta = one["metadata"]
    space = ("-n", meta["namespace"]) if "namespace" in meta else ()
    group = one["apiVersion"].partition("/")[0]
    return (f"{one['kind']}.{group}", meta["name"], *space)


def _as_given(found: Object) -> Object:
    meta = {name: value for name, value in found["metadata"].items() if name not in GIVEN}
    return {**found, "metadata": meta}
