"""A whole rollout on a cluster under load: real pods of the image `server`, killed; the reconciler killed too.

TOKKA_TEST_SERVER_IMAGE   the image `server`, known to the cluster's nodes
TOKKA_TEST_HOST           an address of this machine that pods reach; this process reaches pods by theirs

TOKKA_TEST_GATEWAY        how this process reaches KServe's gateway, where the Gateway's status names no address

Where the cluster has no KServe, tests/cluster/standin.py plays its controller; what a real one needs is in real.py.
"""

import math
import time
import uuid
from collections.abc import Iterator

import pytest
from kubernetes.config import kube_config

from tests.cluster.conftest import variable
from tests.cluster.kubectl import Cluster
from tests.cluster.real import RealKServe
from tests.cluster.rollouts import ENDPOINT, Crowd, Rollouts
from tests.cluster.standin import CONFIG_MAPS, StandIn, installed
from tests.manifests.objects import Object
from tokka.deployment.kserve.inference_service import OWNER
from tokka.deployment.kserve.predictors import pod_of
from tokka.deployment.kserve.standard import split_of
from tokka.deployment.reconcile import rollback
from tokka.kubernetes.api import INFERENCE_SERVICES, PODS
from tokka.kubernetes.connection import Connection
from tokka.registry.model_uri import ModelUri


@pytest.fixture(scope="module")
def here(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rollouts, StandIn | RealKServe, Connection]]:
    image, host = variable("TOKKA_TEST_SERVER_IMAGE"), variable("TOKKA_TEST_HOST")
    namespace, folder = f"serving-{uuid.uuid4().hex[:6]}", tmp_path_factory.mktemp("kserve")
    with installed(cluster) as stands_in:
        cluster.make_namespace(namespace, "restricted")
        try:
            with Rollouts(folder, namespace, host) as rollouts:
                api = Connection(namespace)
                key = rollouts.settings.verify_key.read_text()
                api.create(CONFIG_MAPS, {"metadata": {"name": "tokka-verify"}, "data": {"signing.pub": key}})
                (folder / "proxy").mkdir()
                made = StandIn(namespace, pod(image, rollouts.mlflow), folder / "proxy") if stands_in else None
                with made or RealKServe(cluster, namespace, image, rollouts.mlflow) as kserve:
                    rollouts.start_replica()
                    rollouts.start_replica()
                    yield rollouts, kserve, api
        finally:
            # Of a real KServe's pods each first drains.
            cluster.run("delete", "namespace", namespace, "--ignore-not-found", "--timeout=300s")
            # The client keeps the keys of a kubeconfig in files until its process ends.
            kube_config._cleanup_temp_files()


def pod(image: str, mlflow: str) -> Object:
    """What the runtime `tokka` and the storage container make of a predictor."""
    confined = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounts = [("models", "/mnt/models"), ("keys", "/keys"), ("tmp", "/tmp")]
    shared: Object = {
        "image": image, "imagePullPolicy": "Never", "securityContext": confined,
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
        "resources": {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "700Mi"}},
    }  # fmt: skip
    key = {"name": "TOKKA_VERIFY_KEY", "value": "/keys/signing.pub"}
    fetches = {"name": "storage-initializer", "command": ["tokka", "fetch-model"]}
    env = [key, {"name": "TOKKA_TRACKING_URI", "value": mlflow}, {"name": "TOKKA_RECORD_URL", "value": "postgresql://"}]
    probe = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5}
    serves = {
        "name": "kserve-container", "env": [key], "readinessProbe": probe,
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "6"]}}},
    }  # fmt: skip
    return {
        "initContainers": [{**shared, **fetches, "env": env}], "containers": [{**shared, **serves}],
        "volumes": [{"name": "models", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
                    {"name": "keys", "configMap": {"name": "tokka-verify"}}],
    }  # fmt: skip


def kill_pod(cluster: Cluster, api: Connection, version: str) -> None:
    """SIGKILL, without the time that a pod has to end."""
    pods = [pod_of(one) for one in api.list(PODS, {OWNER: ENDPOINT})]
    name = next(one.name for one in pods if one.ready and ModelUri.parse(one.uri).version == version)
    cluster.run("delete", "pod", name, "-n", api.namespace, "--grace-period=0", "--force")


def agrees(rollouts: Rollouts, api: Connection) -> bool:
    """Whether the cluster has what the record says, and nothing else."""
    service, state = api.get(INFERENCE_SERVICES, ENDPOINT), rollouts.state
    assert service is not None and state.champion is not None
    return split_of(service) == {f"tokka://{ENDPOINT}/{state.champion.version}/{state.champion.digest}": 100}


def test_a_rollout_under_load_with_everybody_killed(cluster: Cluster, here) -> None:
    rollouts, kserve, api = here
    rollouts.ask_for("1")
    seconds = rollouts.wait(lambda: rollouts.served() == "1", "the first version serves")
    print(f"\nfirst version: seen to serve after {seconds:.1f} s")
    with Crowd(kserve) as crowd:
        rollouts.wait(lambda: len(crowd.answers) > 50, "requests")
        rollouts.ask_for("2")
        rollouts.wait(lambda: rollouts.state.phase == "shadow", "the shadow")
        rollouts.kill_leader()
        rollouts.wait(lambda: rollouts.state.share == 0.1, "the first step")
        killed = [time.time()]
        kill_pod(cluster, api, "2")
        rollouts.wait(lambda: rollouts.state.share == 0.5, "the second step")
        killed.append(time.time())
        kill_pod(cluster, api, "1")
        rollouts.wait(lambda: rollouts.served() == "2", "the promotion")
        rollouts.ask_for("3")
        rollouts.wait(lambda: rollouts.state.challenger is not None, "the worse version comes in")
        rollouts.wait(lambda: rollouts.state.phase == "idle", "the worse version is rolled back")
        rollouts.wait(lambda: rollouts.served() == "2" and agrees(rollouts, api), "record and cluster agree")
    states = rollouts.record.history(ENDPOINT, 1000)[::-1]
    for state, after in zip(states, [*states[1:], None], strict=True):
        until = after["updated"] if after else float("inf")
        counts = dict(crowd.counts(state["updated"], until))
        seconds = min(until, crowd.answers[-1].came) - state["updated"]
        print(f"{state['phase']:>8} {state['share']:4.0%} {seconds:6.1f} s {counts}")
    print(
        f"{len(crowd.answers)} requests, {len(crowd.failed)} failed {crowd.failed[:3]}; troubles {kserve.troubles[:3]}"
    )
    champions = [state["champion"]["version"] for state in states if state["champion"]]
    assert [one for one, before in zip(champions, [None, *champions], strict=False) if one != before] == ["1", "2"]
    assert crowd.failed == []
    assert crowd.asked_again(killed) == [], "what is moved or taken away costs no request"
    for share in (0.1, 0.5):
        assert_split(crowd, states, share)


def assert_split(crowd: Crowd, states: list, share: float) -> None:
    """Of the last seconds of a step, which no change of the weights and no killed pod has disturbed."""
    step = next(number for number, state in enumerate(states) if state["share"] == share)
    last = max(number for number, state in enumerate(states) if state["share"] == share)
    counts = crowd.counts(states[step]["updated"] + 2.0, states[last + 1]["updated"])
    drawn, on_it = counts.total(), counts["2"]
    assert abs(on_it - drawn * share) <= 4 * math.sqrt(drawn * share * (1 - share)) + 0.1 * drawn * share + 1, counts


def test_a_rollback_by_hand_takes_the_challenger_from_users(cluster: Cluster, here) -> None:
    rollouts, kserve, api = here
    with Crowd(kserve) as crowd:
        rollouts.ask_for("1")
        rollouts.wait(lambda: rollouts.state.share == 0.5, "the second step")
        rollouts.wait(lambda: [one.version for one in crowd.answers[-20:]].count("1") > 3, "traffic on it")
        written = rollback(rollouts.record, ENDPOINT, "complaints").updated
        rollouts.wait(lambda: rollouts.served() == "2" and agrees(rollouts, api), "record and cluster agree")
    last = max(one.came for one in crowd.answers if one.version == "1")
    print(f"\nfrom the rollback's write to its last answer: {last - written:.2f} s; failed: {crowd.failed}")
    assert crowd.failed == [] and crowd.asked_again([]) == []
