"""In the place of Kubeflow Trainer, where a cluster has none: the pods of TrainJobs, by their TrainingRuntime.

It does what Trainer and JobSet do with ours: so many pods, which know their number and the first one's address; when
one fails or is gone, all are made anew; exit code 65 is the end. For tests alone.
"""

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

from kubernetes.config import kube_config

from tests.cluster.standin import _definition
from tests.manifests.objects import Object
from tokka.errors import TokkaError
from tokka.kubernetes.api import PODS
from tokka.kubernetes.connection import Connection
from tokka.kubernetes.train_job import EXIT_REFUSED, GROUP, OF_JOB, RUNTIMES, TRAIN_JOBS, standing

PORT, LOOK_S, MOST_RESTARTS = 29400, 0.5, 10
ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
NAMES = {"trainjobs": "TrainJob", "trainingruntimes": "TrainingRuntime"}


def definitions() -> list[Object]:
    """What makes a cluster look as if it had Trainer."""
    return [_definition(GROUP, plural, kind, "v1alpha1", ANY) for plural, kind in NAMES.items()]


class StandIn:
    """Looks at the TrainJobs of a namespace again and again until the end of the block."""

    def __init__(self, namespace: str) -> None:
        self._api, self._ended = Connection(namespace), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.restarts, self.troubles = 0, list[str]()

    def __enter__(self) -> "StandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                for job in self._api.list(TRAIN_JOBS, {}):
                    if standing(job).state == "begun":
                        self._carry_out(job)
            except TokkaError as error:
                self.troubles.append(str(error))

    def _carry_out(self, job: Object) -> None:
        name, nodes = job["metadata"]["name"], job["spec"]["trainer"]["numNodes"]
        pods = {one["metadata"]["labels"]["node"]: one for one in self._api.list(PODS, {OF_JOB: name})}
        if any("deletionTimestamp" in one["metadata"] for one in pods.values()):
            if not all("deletionTimestamp" in one["metadata"] for one in pods.values()):
                self._begin_anew(pods)
            return
        codes = {node: _exit_code(one) for node, one in pods.items()}
        if len(pods) == nodes and set(codes.values()) == {0}:
            self._tell(name, "Complete")
        elif EXIT_REFUSED in codes.values() or self.restarts > MOST_RESTARTS:
            self._tell(name, "Failed")
        elif any(codes.values()) or ("0" not in pods and pods):
            self._begin_anew(pods)
        elif "0" not in pods:
            self._make(job, 0, "127.0.0.1")
        elif address := pods["0"].get("status", {}).get("podIP"):
            for node in range(1, nodes):
                if str(node) not in pods:
                    self._make(job, node, address)

    def _begin_anew(self, pods: dict[str, Object]) -> None:
        self.restarts += 1
        for one in pods.values():
            self._api.delete(PODS, one["metadata"]["name"], one["metadata"]["resourceVersion"])

    def _make(self, job: Object, node: int, address: str) -> None:
        runtime = self._api.get(RUNTIMES, job["spec"]["runtimeRef"]["name"]) or {}
        (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        template: Any = copy.deepcopy(replicated["template"]["spec"]["template"])
        trainer, (container,) = job["spec"]["trainer"], template["spec"]["containers"]
        place = {"NNODES": trainer["numNodes"], "NODE_RANK": node, "MASTER_ADDR": address, "MASTER_PORT": PORT}
        container["env"] += [{"name": f"PET_{key}", "value": str(value)} for key, value in place.items()]
        container |= {"command": trainer["command"], "imagePullPolicy": "IfNotPresent"}
        container |= {"image": trainer["image"]} if "image" in trainer else {}
        container["resources"] = trainer.get("resourcesPerNode", {})
        name = job["metadata"]["name"]
        labels = {**template["metadata"]["labels"], OF_JOB: name, "node": str(node)}
        owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": name, "uid": job["metadata"]["uid"]}
        meta = {"name": f"{name}-{node}-{self.restarts}", "labels": labels, "ownerReferences": [owner]}
        self._api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})

    def _tell(self, name: str, kind: str) -> None:
        conditions = [{"type": kind, "status": "True", "reason": kind, "message": f"{self.restarts} restarts"}]
        status = {"metadata": {}, "status": {"conditions": conditions}}
        self._api.patch(TRAIN_JOBS, f"{name}/status", status)


def _exit_code(pod: Object) -> int | None:
    """Of a pod that has ended; 137 for one that was evicted before its container said so."""
    states = pod.get("status", {}).get("containerStatuses") or [{}]
    ended = states[0].get("state", {}).get("terminated")
    return ended["exitCode"] if ended else 137 if pod.get("status", {}).get("phase") == "Failed" else None


@contextlib.contextmanager
def installed(cluster: Any, namespace: str) -> Iterator[StandIn | None]:
    """A cluster with Trainer: its own (None), or what stands in for it."""
    if GROUP in cluster.run("api-versions"):
        yield None
        return
    made = definitions()
    cluster.apply(made)
    names = [f"crd/{one['metadata']['name']}" for one in made]
    try:
        cluster.run("wait", "--for=condition=Established", *names, "--timeout=60s")
        with StandIn(namespace) as standin:
            yield standin
    finally:
        cluster.run("delete", "--ignore-not-found", *names, "--wait=false")
        # The client's files of keys, which it keeps until its process ends.
        kube_config._cleanup_temp_files()
