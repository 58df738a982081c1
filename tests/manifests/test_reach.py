"""The NetworkPolicies leave the paths that are needed and no other. What carries them out is the cluster's plug-in."""

import pytest

from tests.manifests.objects import Object, Pod, pods
from tests.manifests.reach import may, paths
from tests.manifests.selectors import OUTSIDE, outside

MLFLOW, RETRAIN = "Deployment tokka/mlflow", "CronJob tokka/retrain"
POSTGRESQL, S3 = "StatefulSet tokka/postgresql", "StatefulSet tokka/s3"
STRANGERS = [
    outside("a driver of KFP's", "kubeflow", {"pipelines.kubeflow.org/v2_component": "true"}),
    outside("another pod of kubeflow", "kubeflow", {"app": "ml-pipeline-ui"}, 3000),
    outside("a pod elsewhere", "default", {"app.kubernetes.io/name": "mlflow"}, 5432),
]
API, STEP, DRIVER = "KFP's API server", "a step", "a driver of KFP's"
NEEDED = {
    (STEP, MLFLOW, 5000),
    (DRIVER, MLFLOW, 5000),
    (API, MLFLOW, 5000),
    (RETRAIN, API, 8888),
    (RETRAIN, "cluster DNS", 53),
    (MLFLOW, "cluster DNS", 53),
    (STEP, "cluster DNS", 53),
    (STEP, API, 8887),
    (STEP, API, 8888),
    (STEP, "KFP's metadata", 8080),
    (STEP, "KFP's S3", 8333),
}
STORES = {
    (client, store, port)
    for client in (MLFLOW, STEP)
    for store, port in ((POSTGRESQL, 5432), (S3, 7070))
} | {(POSTGRESQL, "cluster DNS", 53), (S3, "cluster DNS", 53)}  # fmt: skip
# A database elsewhere is known by its port alone.
OPEN = {(MLFLOW, "a pod elsewhere", 5432), (STEP, "a pod elsewhere", 5432)}


@pytest.mark.parametrize(
    ("name", "needed"), [("dev", NEEDED | STORES), ("staging", NEEDED | OPEN), ("production", NEEDED | OPEN)]
)
def test_what_is_needed_is_open_and_nothing_else(
    built: dict[str, list[Object]], name: str, needed: set[tuple[str, str, int]]
):
    """Of every path that begins or ends at a pod of ours; of KFP's own among themselves nothing is said."""
    everything = [*pods(built[name]), *OUTSIDE, *STRANGERS]
    ours = {pod.owner for pod in everything if pod.namespace == "tokka"} | {STEP}
    assert {path for path in paths(built[name], everything) if ours & {*path[:2]}} == needed


def test_without_a_policy_everything_is_open(dev: list[Object]):
    without = [one for one in dev if one["kind"] != "NetworkPolicy"]
    stranger, database = STRANGERS[1], find(pods(dev), POSTGRESQL)
    assert may(without, stranger, database, 5432) and not may(dev, stranger, database, 5432)


def find(everything, owner: str) -> Pod:
    return next(pod for pod in everything if pod.owner == owner)
