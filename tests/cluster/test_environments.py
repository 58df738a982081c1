"""An environment, applied: its pods become ready as they are confined, and a step reaches what it needs."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.conftest import variable
from tests.cluster.kubectl import PATIENCE, Cluster
from tests.cluster.moving import moved, with_images, without_volumes
from tests.cluster.stores import Outside, outside_stores, staging
from tests.fakes import kubeflow as fakes
from tests.manifests.objects import OVERLAYS, Object, build

# A step's own view: everything by the references that it gets, nothing said by hand.
STEP = """
import os
import boto3, mlflow, sqlalchemy

mlflow.set_tracking_uri(os.environ["TOKKA_TRACKING_URI"])
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.9)
    mlflow.log_text("hello", "note.txt")
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt") == "hello"
assert mlflow.get_run(run.info.run_id).data.metrics == {"accuracy": 0.9}

bucket, _, prefix = os.environ["TOKKA_ARCHIVE"].removeprefix("s3://").partition("/")
s3 = boto3.client("s3")
s3.put_object(Bucket=bucket, Key=prefix + "/one", Body=b"one")
assert s3.get_object(Bucket=bucket, Key=prefix + "/one")["Body"].read() == b"one"
stored = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
assert any(key.startswith("mlflow/") and key.endswith("note.txt") for key in stored), stored

with sqlalchemy.create_engine(os.environ["TOKKA_RECORD_URL"]).begin() as connection:
    connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS seen (id int)"))
print("step reached everything")
"""
# Tells each new run as a line: its parameters and account, and the images of the version that it runs.
SERVE = """
import json, re, threading
from fake_kubeflow import FakeKubeflow

with FakeKubeflow(("0.0.0.0", 8888)) as kubeflow:
    told, tick = set(), threading.Event()
    while not tick.wait(0.2):
        for name, run in list(kubeflow.runs.items()):
            if name not in told:
                told.add(name)
                versions = json.dumps([one.pipeline_spec for one in kubeflow.versions.values()], default=str)
                images = sorted({*re.findall('"image": "([^"]+)"', versions)})
                line = {"parameters": run.runtime_config.parameters, "images": images, "account": run.service_account}
                print(json.dumps(line, default=str), flush=True)
"""
FOREIGN_HOST = """
import urllib.error, urllib.request
request = urllib.request.Request("http://mlflow:5000/", headers={"Host": "evil.example"})
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    print(error.code)
"""
CONFINED: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Running(NamedTuple):
    """An environment in the cluster, all its pods ready."""

    name: str
    spaces: dict[str, str]
    image: str


@pytest.fixture(scope="module", params=["dev", "staging"])
def running(request: pytest.FixtureRequest, cluster: Cluster, spaces: dict[str, str]) -> Iterator[Running]:
    image = variable("TOKKA_TEST_IMAGE")
    with ExitStack() as stack:
        objects = _dev() if request.param == "dev" else staging(_stores(stack, spaces))
        objects = with_images(moved(objects, spaces), {"tokka/pipeline": image})
        cluster.apply(objects)
        try:
            cluster.wait_until_ready(spaces["tokka"])
            yield Running(request.param, spaces, image)
        finally:
            # The other environment has the same names.
            kinds = "deployments,statefulsets,cronjobs,secrets,configmaps,networkpolicies,services"
            cluster.run("delete", kinds, "-n", spaces["tokka"], "--all", "--timeout=180s")
            cluster.run("delete", f"{kinds},pods", "-n", spaces["kubeflow"], "--all", "--timeout=180s")
            cluster.run("wait", "--for=delete", "pods", "--all", "-n", spaces["tokka"], "--timeout=180s")


def test_all_pods_are_confined_as_they_run(cluster: Cluster, running: Running):
    space = running.spaces["tokka"]
    pods = [one["metadata"]["name"] for one in cluster.get(space, "pods")]
    assert len(pods) == (3 if running.name == "dev" else 1)
    for pod in pods:
        status = dict(line.split(":", 1) for line in inside(cluster, space, pod, "cat /proc/1/status").splitlines())
        assert status["Uid"].split()[0] != "0"
        assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
        assert "Read-only file system" in inside(cluster, space, pod, "echo 1 2>&1 >/written; true")


def test_no_pod_has_a_token_of_the_api(cluster: Cluster, running: Running):
    space = running.spaces["tokka"]
    folder = "/var/run/secrets/kubernetes.io"
    for pod in cluster.get(space, "pods"):
        mounts = [mount["mountPath"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]]
        assert [path for path in mounts if path.startswith(folder)] == []


def test_a_step_reaches_mlflow_its_objects_and_its_record(cluster: Cluster, running: Running):
    code, said = cluster.finish(running.spaces["kubeflow"], step(running, STEP))
    assert code == 0 and "step reached everything" in said, said


def test_mlflow_answers_to_its_own_names_alone(cluster: Cluster, running: Running):
    space = running.spaces["tokka"]
    said = cluster.run("exec", "deployment/mlflow", "-n", space, "--", "python", "-c", FOREIGN_HOST)
    assert said.strip() == "403"


def test_a_new_mlflow_knows_what_the_old_one_knew(cluster: Cluster, running: Running):
    space = running.spaces["tokka"]
    made = in_mlflow(cluster, space, "mlflow.create_experiment('kept')")
    cluster.run("rollout", "restart", "deployment/mlflow", "-n", space)
    cluster.wait_until_ready(space)
    assert in_mlflow(cluster, space, "mlflow.get_experiment_by_name('kept').experiment_id") == made


def test_a_turn_of_the_retraining_starts_one_run_with_its_own_image(cluster: Cluster, running: Running):
    ours, theirs = running.spaces["tokka"], running.spaces["kubeflow"]
    cluster.apply(kubeflow(running))
    cluster.run("wait", "--for=condition=Ready", "pod/ml-pipeline", "-n", theirs, PATIENCE)
    cluster.run("create", "job", "turn", "--from=cronjob/retrain", "-n", ours)
    ended = "jsonpath={.status.conditions[?(@.status=='True')].type}"
    cluster.run("wait", f"--for={ended}", "job/turn", "-n", ours, PATIENCE)
    (pod,) = cluster.get(ours, "pods", "--selector=batch.kubernetes.io/job-name=turn")
    said = cluster.words_of(ours, pod["metadata"]["name"])
    cluster.run("delete", "job", "turn", "-n", ours, "--cascade=foreground", "--timeout=180s")
    assert pod["status"]["phase"] == "Succeeded", said
    (asked,) = [json.loads(line) for line in cluster.words_of(theirs, "ml-pipeline").splitlines() if line[:1] == "{"]
    assert asked["parameters"]["cause"] == "drift" and asked["account"] == "tokka-pipeline"
    assert asked["images"] == [running.image]


def _dev() -> list[Object]:
    images = {
        "postgres": variable("TOKKA_TEST_POSTGRESQL_IMAGE"),
        "versity/versitygw": variable("TOKKA_TEST_S3_IMAGE"),
    }
    objects = with_images(build(OVERLAYS / "dev"), images)
    return objects if _has_volumes() else without_volumes(objects)


def _has_volumes() -> bool:
    classes = json.loads(Cluster().run("get", "storageclasses", "-o", "json"))["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    return any(one["metadata"].get("annotations", {}).get(default) == "true" for one in classes)


def _stores(stack: ExitStack, spaces: dict[str, str]) -> Outside:
    mark = spaces["tokka"].rpartition("-")[2]
    return stack.enter_context(outside_stores(variable("TOKKA_TEST_RECORD_URL"), variable("TOKKA_TEST_S3"), mark))


def step(running: Running, script: str) -> Object:
    """A pod as KFP makes it for a step, with our account, settings and secrets."""
    sources = [
        {"configMapRef": {"name": "tokka"}},
        {"secretRef": {"name": "tokka-s3"}},
        {"secretRef": {"name": "tokka-database"}},
    ]
    container = {
        "name": "main",
        "image": running.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", script],
        "envFrom": sources,
        "securityContext": CONFINED,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    labels = {"app.kubernetes.io/part-of": "tokka", "pipelines.kubeflow.org/v2_component": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "step", "namespace": running.spaces["kubeflow"], "labels": labels},
        "spec": {
            "serviceAccountName": "tokka-pipeline",
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 10001, "runAsGroup": 10001},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def kubeflow(running: Running) -> list[Object]:
    """A stand-in for KFP's API server under its name, which tells each run that it is asked for."""
    space = {"namespace": running.spaces["kubeflow"], "name": "ml-pipeline"}
    files = {"fake_kubeflow.py": Path(fakes.__file__).read_text(), "serve.py": SERVE}
    pod = step(running, "")
    container = pod["spec"]["containers"][0]
    container |= {"command": ["python", "/fake/serve.py"], "readinessProbe": {"tcpSocket": {"port": 8888}}}
    container["volumeMounts"].append({"name": "fake", "mountPath": "/fake"})
    pod["spec"]["volumes"].append({"name": "fake", "configMap": {"name": "ml-pipeline"}})
    pod["metadata"] = space | {"labels": {"app": "ml-pipeline"}}
    service = {"selector": {"app": "ml-pipeline"}, "ports": [{"port": 8888}]}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": space, "data": files},
        {"apiVersion": "v1", "kind": "Service", "metadata": space, "spec": service},
        pod,
    ]


def in_mlflow(cluster: Cluster, space: str, expression: str) -> str:
    """What an expression is to a client in MLflow's own pod."""
    script = f"import mlflow; mlflow.set_tracking_uri('http://localhost:5000'); print({expression})"
    return cluster.run("exec", "deployment/mlflow", "-n", space, "--", "python", "-c", script).strip()


def inside(cluster: Cluster, space: str, pod: str, command: str) -> str:
    """What a command in a pod's first container prints."""
    return cluster.run("exec", pod, "-n", space, "--", "sh", "-c", command)
