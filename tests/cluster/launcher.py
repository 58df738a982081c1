"""In the place of Kubeflow's driver and launcher, where a cluster has none: a compiled pipeline as pods, task by task.

The containers, settings, secrets and volumes are those of the IR and its platform spec; what a task leaves goes through
S3. A pod that vanishes is made anew, once more than the task's retries, as Argo does; one that fails is the task's
failure. For tests alone.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.cluster.kubectl import PATIENCE, Cluster, Refused
from tests.cluster.stores import Outside
from tests.manifests.objects import Object

# Fetches what the task takes, runs its command as KFP's launcher does, and brings away what it made.
BRIDGE = """
import json, os, subprocess, sys
from pathlib import Path

import boto3

task, endpoint = json.loads(os.environ["TASK"]), os.environ["LAUNCHER_S3"]
bucket = boto3.resource("s3", endpoint_url=endpoint).Bucket(os.environ["LAUNCHER_BUCKET"])


def artifacts(side):
    return [one for kept in task["input"][side].get("artifacts", {}).values() for one in kept["artifacts"]]


def place(uri):
    return Path("/s3/" + uri.removeprefix("s3://")), uri.removeprefix(f"s3://{bucket.name}/")


for one in artifacts("inputs"):
    path, key = place(one["uri"])
    for found in bucket.objects.filter(Prefix=key):
        if found.key == key or found.key.startswith(key + "/"):
            target = Path(str(path) + found.key.removeprefix(key))
            target.parent.mkdir(parents=True, exist_ok=True)
            bucket.download_file(found.key, str(target))
for one in artifacts("outputs"):
    place(one["uri"])[0].parent.mkdir(parents=True, exist_ok=True)
print("the task begins", flush=True)
told = [json.dumps(task["input"]) if word == "{{$}}" else word for word in task["args"]]
code = subprocess.run([*task["command"], *told]).returncode
if code:
    sys.exit(code)
for one in artifacts("outputs"):
    path, key = place(one["uri"])
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            bucket.upload_file(str(file), key + str(file).removeprefix(str(path)))
bucket.upload_file(task["input"]["outputs"]["outputFile"], task["output_key"])
"""
CONDITION = re.compile(r"inputs\.parameter_values\['(?P<name>.+)'\] == '(?P<value>.*)'")
UUID, BESIDE = "{{$.pipeline_job_uuid}}", "complete-evaluation"


class Failed(Exception):
    """A task's pod ended with an error: its name and last words."""


class Pipeline(NamedTuple):
    """A compiled pipeline."""

    ir: Any
    executors: Any

    @classmethod
    def read(cls, path: Path) -> "Pipeline":
        ir, platform = yaml.safe_load_all(path.read_text())
        return cls(ir, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])


class Launcher:
    """Runs pipelines in a namespace; `after_start(task, pod)` may disturb each pod that was started."""

    def __init__(self, cluster: Cluster, space: str, image: str, stores: Outside) -> None:
        self.cluster, self.space, self.image, self.stores = cluster, space, image, stores
        self.after_start: Callable[[str, str], None] = lambda task, pod: None
        # How long a pod may take.
        self.patience = PATIENCE
        # By task: what its pods get besides, such as another volume.
        self.changes: Callable[[str, Object], None] = lambda task, pod: None

    def run(self, pipeline: Pipeline, job: str, parameters: dict[str, Any], until: str) -> dict[str, Any]:
        """Run the tasks whose condition holds, up to `until`; the parameters that each gave, by task.

        What nothing waits for (BESIDE) is left out.
        """
        given = {name: one.get("defaultValue") for name, one in _parameters(pipeline.ir["root"]).items()}
        done: dict[str, Any] = {}
        self._tasks(pipeline, job, pipeline.ir["root"]["dag"], given | parameters, done, until)
        return {name: one["parameters"] for name, one in done.items()}

    def _tasks(
        self, pipeline: Pipeline, job: str, dag: Any, given: dict[str, Any], done: dict[str, Any], until: str
    ) -> None:
        waiting = {name: task for name, task in dag["tasks"].items() if name != BESIDE}
        while waiting and until not in done:
            # A task that was left out by its condition is never done, nor is what depends on it.
            name = next((one for one, task in waiting.items() if _ready(task, done, waiting)), None)
            if name is None:
                return
            task = waiting.pop(name)
            taken = _inputs(task, given, done, job)
            if not _holds(task, taken["parameters"]):
                continue
            component = pipeline.ir["components"][task["componentRef"]["name"]]
            if "dag" in component:
                defaults = {key: one.get("defaultValue") for key, one in _parameters(component).items()}
                self._tasks(pipeline, job, component["dag"], defaults | taken["parameters"], done, until)
            else:
                done[name] = self._task(pipeline, job, name, task, component, taken)

    def _task(self, pipeline: Pipeline, job: str, name: str, task: Any, component: Any, taken: Any) -> Any:
        executor = pipeline.ir["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        base = f"launcher/{job}/{name}"
        outputs = component.get("outputDefinitions", {})
        made = {
            key: {"artifacts": [{"name": key, "type": one["artifactType"], "uri": f"s3://{self.stores.bucket}/{base}/{key}",
                                 "metadata": {}}]}
            for key, one in outputs.get("artifacts", {}).items()
        }  # fmt: skip
        told = {
            "inputs": {"parameterValues": taken["parameters"], "artifacts": taken["artifacts"]},
            "outputs": {
                "parameters": {key: {"outputFile": f"/tmp/{key}"} for key in outputs.get("parameters", {})},
                "artifacts": made, "outputFile": "/tmp/executor_output.json",
            },
        }  # fmt: skip
        command = {key: executor[key] for key in ("command", "args")}
        script = {"input": told, **command, "output_key": f"{base}/output.json"}
        pod = self._pod(f"{job}-{name}"[:60].rstrip("-"), job, pipeline.executors[component["executorLabel"]], script)
        self.changes(name, pod)
        self._finish(name, pod, tries=2 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0)))
        answer = json.loads(self.stores.objects.Object(f"{base}/output.json").get()["Body"].read())
        return {"parameters": answer.get("parameterValues", {}), "artifacts": made}

    def _finish(self, task: str, pod: Object, tries: int) -> None:
        name, ended = pod["metadata"]["name"], "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
        for _ in range(tries):
            self.cluster.apply([pod])
            self.after_start(task, name)
            try:
                self.cluster.run("wait", f"--for={ended}", f"pod/{name}", "-n", self.space, self.patience)
                state: Any = json.loads(self.cluster.run("get", "pod", name, "-n", self.space, "-o", "json"))
            except Refused as error:
                if "not found" not in str(error).lower():
                    raise Refused(f"{error}\n{self.cluster.explain(self.space)}") from None
                continue  # it vanished: once more
            words = self.cluster.words_of(self.space, name)
            self.cluster.run("delete", "pod", name, "-n", self.space, "--timeout=60s")
            if state["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]:
                raise Failed(f"{task}: {words}")
            return
        raise Failed(f"{task}: its pods vanished {tries} times")

    def _pod(self, name: str, job: str, platform: Any, script: Any) -> Object:
        settings = {
            "TASK": json.dumps(script),
            "LAUNCHER_S3": self.stores.endpoint,
            "LAUNCHER_BUCKET": self.stores.bucket,
        }
        sources = [("work", "/s3", {"emptyDir": {}}), *_volumes(platform)]
        confined = {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        container = {
            "name": "main", "image": self.image, "imagePullPolicy": "IfNotPresent", "command": ["python", "-c", BRIDGE],
            "env": [*({"name": key, "value": value} for key, value in settings.items()), *_environment(platform)],
            "securityContext": confined,
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path, _ in sources],
        }  # fmt: skip
        labels = {"app.kubernetes.io/part-of": "tokka", "pipelines.kubeflow.org/v2_component": "true"}
        user = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.space, "labels": labels | {"pipeline/runid": job}},
            "spec": {"serviceAccountName": "tokka-pipeline", "restartPolicy": "Never", "securityContext": user,
                     "containers": [container],
                     "volumes": [{"name": volume, **source} for volume, _, source in sources]},
        }  # fmt: skip


def _environment(platform: Any) -> Iterator[Object]:
    kinds = (("configMapAsEnv", "configMap", "configMapKey"), ("secretAsEnv", "secret", "secretKey"))
    for kind, source, key in kinds:
        for one in platform.get(kind, []):
            for entry in one["keyToEnv"]:
                reference = {"name": one[f"{source}Name"], "key": entry[key], "optional": True}
                yield {"name": entry["envVar"], "valueFrom": {f"{source}KeyRef": reference}}
    for one in platform.get("fieldPathAsEnv", []):
        yield {"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}}


def _volumes(platform: Any) -> Iterator[tuple[str, str, Object]]:
    """Name, path and source."""
    for one in platform.get("configMapAsVolume", []):
        yield one["configMapName"], one["mountPath"], {"configMap": {"name": one["configMapName"], "optional": True}}
    for one in platform.get("secretAsVolume", []):
        source = {"secretName": one["secretName"], "optional": True, "defaultMode": 0o440}
        yield one["secretName"], one["mountPath"], {"secret": source}
    for one in platform.get("emptyDirMounts", []):
        yield one["volumeName"], one["mountPath"], {"emptyDir": {"sizeLimit": one["sizeLimit"]}}


def _parameters(component: Any) -> Any:
    return component.get("inputDefinitions", {}).get("parameters", {})


def _ready(task: Any, done: dict[str, Any], waiting: dict[str, Any]) -> bool:
    return all(one in done or one not in waiting for one in task.get("dependentTasks", []))


def _holds(task: Any, parameters: dict[str, Any]) -> bool:
    condition = CONDITION.fullmatch(task.get("triggerPolicy", {}).get("condition", ""))
    return condition is None or parameters.get(condition["name"]) == condition["value"]


def _inputs(task: Any, given: dict[str, Any], done: dict[str, Any], job: str) -> dict[str, Any]:
    """What a task takes; what a task that was left out would have given is absent."""
    parameters: dict[str, Any] = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        match source:
            case {"runtimeValue": {"constant": constant}}:
                parameters[name] = job if constant == UUID else constant
            case {"componentInputParameter": outer}:
                parameters[name] = given[outer]
            case {"taskOutputParameter": {"producerTask": task_name, "outputParameterKey": key}} if task_name in done:
                parameters[name] = done[task_name]["parameters"][key]
    artifacts = {
        name: done[source["taskOutputArtifact"]["producerTask"]]["artifacts"][
            source["taskOutputArtifact"]["outputArtifactKey"]
        ]
        for name, source in task.get("inputs", {}).get("artifacts", {}).items()
    }
    return {"parameters": parameters, "artifacts": artifacts}
