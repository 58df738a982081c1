"""`specialise` in pods whose surroundings fail: nothing is promoted that was not proven, and nothing stays locked.

TOKKA_TEST_HOST    an address of this machine that pods reach: the relays in front of PostgreSQL and S3 stand there
"""

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy

from tests.cluster.conftest import variable
from tests.cluster.kubectl import Cluster
from tests.cluster.launcher import Failed, Launcher, Pipeline
from tests.cluster.moving import moved, secret, with_images
from tests.cluster.stores import Outside, outside_stores, staging
from tests.cluster.test_environments import in_mlflow
from tests.fixtures.disturbed import Relay
from tests.manifests.objects import Object, kubectl
from tokka.data.sample import make_sample
from tokka.runs.kubeflow import compile_pipelines

ROOT = Path(__file__).parents[2]
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
AWAY_S = 30.0
TASKS = ("preflight", "validate-data", "preprocess", "finetune", "evaluate", "gate", "register", "review")
COUNT = "len(mlflow.MlflowClient().search_model_versions(\"name='{}'\"))"


class World(NamedTuple):
    """An environment whose steps reach PostgreSQL and S3 through relays."""

    cluster: Cluster
    spaces: dict[str, str]
    launcher: Launcher
    pipeline: Pipeline
    stores: Outside
    database: Relay
    objects: Relay
    source: str

    def run(self, endpoint: str, until: str, seed: int = 7) -> dict[str, Any]:
        """One run of `specialise` under an id of its own; reviewed, so that it ends before a rollout."""
        overrides = {"finetuning": {"seed": seed}, "evaluation": {"bootstrap": 200}}
        given = {
            "endpoint": endpoint, "data_source": self.source, "strategy": "frozen", "review": "required",
            "overrides": overrides,
        }  # fmt: skip
        return self.launcher.run(self.pipeline, uuid.uuid4().hex[:12], given, until)

    def versions(self, endpoint: str) -> int:
        """How many versions of the endpoint's model the registry has."""
        return int(in_mlflow(self.cluster, self.spaces["tokka"], COUNT.format(endpoint)))

    def champions(self) -> list[str]:
        """What the record says of every endpoint's champion."""
        with sqlalchemy.create_engine(self.stores.record_url).connect() as connection:
            states = map(json.loads, connection.execute(sqlalchemy.text("SELECT state FROM endpoints")).scalars())
            return [state["champion"]["version"] for state in states if state["champion"]]


@pytest.fixture(scope="module")
def world(cluster: Cluster, spaces: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    image, host, folder = variable("TOKKA_TEST_IMAGE"), variable("TOKKA_TEST_HOST"), tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        mark = spaces["tokka"].rpartition("-")[2]
        stores = stack.enter_context(
            outside_stores(variable("TOKKA_TEST_RECORD_URL"), variable("TOKKA_TEST_S3"), f"faults-{mark}")
        )
        record = sqlalchemy.make_url(stores.record_url)
        database = stack.enter_context(Relay((str(record.host), record.port or 5432)))
        store = sqlalchemy.make_url(stores.endpoint)
        objects = stack.enter_context(Relay((str(store.host), store.port or 80)))
        through = record.set(host=host, port=database.port).render_as_string(hide_password=False)
        steps = {"AWS_ENDPOINT_URL": f"http://{host}:{objects.port}"}
        keys = _keys(folder)
        ours = [
            secret("kubeflow", "tokka-database", TOKKA_RECORD_URL=through),
            secret("kubeflow", "tokka-signing", **{"signing.key": keys[0]}),
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tokka-verify", "namespace": "kubeflow"},
             "data": {"signing.pub": keys[1]}},
        ]  # fmt: skip
        cluster.apply(with_images(moved(_with_steps(staging(stores, ours), steps), spaces), {"tokka/pipeline": image}))
        try:
            cluster.wait_until_ready(spaces["tokka"])
            launcher = Launcher(cluster, spaces["kubeflow"], image, stores)
            yield World(cluster, spaces, launcher, _compiled(folder), stores, database, objects, _rows(stores, folder))
        finally:
            kinds = "deployments,cronjobs,secrets,configmaps,networkpolicies,services,pods"
            for space in spaces.values():
                cluster.run("delete", kinds, "-n", space, "--all", "--timeout=180s")


@pytest.mark.timeout(1500)
def test_killed_in_every_step_and_without_its_database_for_a_while_it_makes_one_version(world: World) -> None:
    killed: list[str] = []
    back: list[threading.Timer] = []

    def disturb(task: str, pod: str) -> None:
        if task not in killed:
            killed.append(task)
            _kill_at_work(world, pod)
        elif task == "register" and not back:
            world.database.away = True
            world.database.break_off()
            back.append(threading.Timer(AWAY_S, setattr, (world.database, "away", False)))
            back[0].start()

    world.launcher.after_start = disturb
    try:
        found = world.run("killed", until="review")
    finally:
        world.launcher.after_start = lambda task, pod: None
        for one in back:
            one.join()
    assert tuple(killed) == TASKS and world.database.refused > 0
    assert found["gate"]["Output"] == "pass" and found["review"]["Output"] == "waiting"
    assert world.versions("killed") == 1 and world.champions() == []
    # The same key without any cache, while its version waits: measured again, and the same version.
    again = world.run("killed", until="review")
    assert again["register"] == found["register"] and again["review"]["Output"] == "waiting"
    assert world.versions("killed") == 1


@pytest.mark.timeout(1500)
def test_a_full_volume_and_a_busy_s3_make_nothing_and_the_next_run_is_not_kept_waiting(world: World) -> None:
    def small(task: str, pod: Object) -> None:
        if task == "finetune":
            for volume in pod["spec"]["volumes"]:
                if "emptyDir" in volume:
                    volume["emptyDir"] = {"medium": "Memory", "sizeLimit": "16Mi"}

    world.launcher.changes = small
    try:
        with pytest.raises(Failed, match="finetune") as full:
            world.run("faulty", until="review")
    finally:
        world.launcher.changes = lambda task, pod: None
    assert "space" in str(full.value).lower(), full.value

    def busy(task: str, pod: str) -> None:
        world.objects.answer = BUSY if task == "preprocess" else b""

    world.launcher.after_start = busy
    try:
        with pytest.raises(Failed, match="preprocess") as refused:
            world.run("faulty", until="review")
    finally:
        world.launcher.after_start, world.objects.answer = (lambda task, pod: None), b""
    assert "does not take the data" in str(refused.value), refused.value
    assert world.versions("faulty") == 0 and world.champions() == []
    found = world.run("faulty", until="review")
    assert found["review"]["Output"] == "waiting" and world.versions("faulty") == 1


def _kill_at_work(world: World, pod: str) -> None:
    """SIGKILL once the task has begun; a pod that is through already is left alone."""
    space = world.spaces["kubeflow"]
    started = "jsonpath={.status.containerStatuses[0].started}"
    world.cluster.run("wait", f"--for={started}", f"pod/{pod}", "-n", space, "--timeout=300s")
    follow = [kubectl(), "logs", "-f", pod, "-n", space]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as logs:
        assert logs.stdout is not None
        next((line for line in logs.stdout if "the task begins" in line), None)
        logs.kill()
    world.cluster.run("delete", "pod", pod, "-n", space, "--grace-period=0", "--force")


def _with_steps(objects: list[Object], settings: dict[str, str]) -> list[Object]:
    """The steps' own settings, and not MLflow's, say where S3 is."""
    for one in objects:
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "tokka":
            one["data"] |= settings
    return objects


def _keys(folder: Path) -> tuple[str, str]:
    key, public = folder / "signing.key", folder / "signing.pub"
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)]
    subprocess.run(["openssl", "genpkey", *curve], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    return key.read_text(), public.read_text()


def _rows(stores: Outside, folder: Path) -> str:
    path = folder / "rows.csv"
    make_sample(path, rows=900)
    stores.objects.upload_file(str(path), "rows.csv")
    return f"s3://{stores.bucket}/rows.csv"


def _compiled(folder: Path) -> Pipeline:
    compile_pipelines(ROOT, folder / "pipelines")
    return Pipeline.read(folder / "pipelines" / "specialise.yaml")
